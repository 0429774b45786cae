# Makes Debian packages, kind's base files (bound at /mnt) and the Kubernetes programs a node image, as kind's own image build does.
cp -r --no-preserve=mode,ownership /mnt/etc /mnt/kind /mnt/usr /
chmod +x /kind/bin/*.sh /usr/local/bin/entrypoint /usr/local/bin/clean-install
echo "v$KUBERNETES" > /kind/version

mkdir -p /opt/cni/bin /etc/cni/net.d /usr/local/sbin /etc/kubernetes/manifests
cp /usr/lib/cni/* /opt/cni/bin/
ln -sf /usr/bin/containerd /usr/bin/ctr /usr/bin/containerd-shim-runc-v2 /usr/local/bin/
ln -sf /usr/sbin/runc /usr/local/sbin/runc
ln -sf /usr/local/bin/node /usr/bin/kubelet

# Without CAP_SYS_RESOURCE, as in a container of some hosts, nothing may be favoured over its parent.
sed -i "s/restrict_oom_score_adj = false/restrict_oom_score_adj = true/; s/SystemdCgroup = true/SystemdCgroup = false/; s/pause:3.10\"/pause:$PAUSE\"/" \
  /etc/containerd/config.toml
ctr oci spec | jq 'del(.process.rlimits)' > /etc/containerd/cri-base.json

rm -f /lib/systemd/system/sysinit.target.wants/systemd-tmpfiles-setup.service /lib/systemd/system/multi-user.target.wants/* /etc/systemd/system/*.wants/* \
  /lib/systemd/system/local-fs.target.wants/* /lib/systemd/system/sockets.target.wants/*udev* /lib/systemd/system/sockets.target.wants/*initctl* \
  /lib/systemd/system/basic.target.wants/*
echo ReadKMsg=no >> /etc/systemd/journald.conf
systemctl enable -q kubelet containerd undo-mount-hacks
systemctl mask -q systemd-binfmt
