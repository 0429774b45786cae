module slipway.dev/benchmarks/flagger

go 1.26.0

require github.com/fluxcd/flagger v1.44.0
