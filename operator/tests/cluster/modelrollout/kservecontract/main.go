// What KServe itself makes of InferenceServices in Standard mode, without a cluster: its own validation, defaults, merge
// with the runtime, Deployment, Service and autoscaler. Reads {"runtimes": [...], "services": [...]} from standard input
// and writes one answer a service.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kserve/kserve/pkg/apis/serving/v1alpha1"
	"github.com/kserve/kserve/pkg/apis/serving/v1beta1"
	"github.com/kserve/kserve/pkg/constants"
	"github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/reconcilers/deployment"
	"github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/reconcilers/hpa"
	"github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/reconcilers/keda"
	"github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/reconcilers/service"
	isvcutils "github.com/kserve/kserve/pkg/controller/v1beta1/inferenceservice/utils"
)

type question struct {
	Runtimes []v1alpha1.ClusterServingRuntime `json:"runtimes"`
	Services []v1beta1.InferenceService       `json:"services"`
}

type component struct {
	Deployment any `json:"deployment"`
	Service    any `json:"service"`
	Autoscaler any `json:"autoscaler,omitempty"`
}

type answer struct {
	Error      string               `json:"error,omitempty"`
	ModelName  string               `json:"modelName,omitempty"`
	Components map[string]component `json:"components,omitempty"`
}

func main() {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	answers := make([]answer, 0, len(asked.Services))
	for i := range asked.Services {
		found, err := judge(asked.Runtimes, &asked.Services[i])
		if err != nil {
			found = answer{Error: err.Error()}
		}
		answers = append(answers, found)
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func judge(runtimes []v1alpha1.ClusterServingRuntime, isvc *v1beta1.InferenceService) (answer, error) {
	config := &v1beta1.InferenceServicesConfig{}
	isvc.DefaultInferenceService(config, &v1beta1.DeployConfig{}, nil, nil, nil)
	if _, err := (&v1beta1.InferenceServiceValidator{}).ValidateCreate(context.Background(), isvc); err != nil {
		return answer{}, err
	}
	pod, err := predictor(runtimes, isvc)
	if err != nil {
		return answer{}, err
	}
	found := answer{ModelName: isvcutils.GetModelName(isvc), Components: map[string]component{}}
	host := constants.PredictorServiceName(isvc.Name)
	if found.Components["predictor"], err = made(isvc, host, &isvc.Spec.Predictor.ComponentExtensionSpec, pod); err != nil {
		return answer{}, err
	}
	if part := isvc.Spec.Transformer; part != nil {
		part.Containers[0] = *part.GetImplementation().GetContainer(isvc.ObjectMeta, part.GetExtensions(), config, host)
		pod := corev1.PodSpec(part.PodSpec)
		name := constants.TransformerServiceName(isvc.Name)
		if found.Components["transformer"], err = made(isvc, name, &part.ComponentExtensionSpec, &pod); err != nil {
			return answer{}, err
		}
	}
	if part := isvc.Spec.Explainer; part != nil {
		part.Containers[0] = *part.GetImplementation().GetContainer(isvc.ObjectMeta, part.GetExtensions(), config, host)
		pod := corev1.PodSpec(part.PodSpec)
		name := constants.ExplainerServiceName(isvc.Name)
		if found.Components["explainer"], err = made(isvc, name, &part.ComponentExtensionSpec, &pod); err != nil {
			return answer{}, err
		}
	}
	return found, nil
}

// predictor merges the InferenceService with its runtime, as the predictor's reconciler does.
func predictor(runtimes []v1alpha1.ClusterServingRuntime, isvc *v1beta1.InferenceService) (*corev1.PodSpec, error) {
	model := isvc.Spec.Predictor.Model
	for i := range runtimes {
		runtime := &runtimes[i]
		if runtime.Name != *model.Runtime {
			continue
		}
		if model.ProtocolVersion != nil && !runtime.Spec.IsProtocolVersionSupported(*model.ProtocolVersion) {
			return nil, fmt.Errorf("runtime %s does not speak %s", runtime.Name, *model.ProtocolVersion)
		}
		if !model.RuntimeSupportsModel(&runtime.Spec) {
			return nil, fmt.Errorf("runtime %s does not serve %s", runtime.Name, model.ModelFormat.Name)
		}
		isvc.SetRuntimeDefaults(runtime.Annotations)
		_, container, pod, err := isvcutils.MergeServingRuntimeAndInferenceServiceSpecs(
			runtime.Spec.Containers, model.Container, isvc, constants.InferenceServiceContainerName,
			runtime.Spec.ServingRuntimePodSpec, isvc.Spec.Predictor.PodSpec,
		)
		if err != nil {
			return nil, err
		}
		if err := isvcutils.ReplacePlaceholders(container, isvc.ObjectMeta); err != nil {
			return nil, err
		}
		pod.Containers = []corev1.Container{*container}
		return pod, nil
	}
	return nil, fmt.Errorf("there is no runtime %s", *model.Runtime)
}

func made(
	isvc *v1beta1.InferenceService, name string, extension *v1beta1.ComponentExtensionSpec, pod *corev1.PodSpec,
) (component, error) {
	meta := func() metav1.ObjectMeta {
		copied := isvc.DeepCopy()
		if copied.Labels == nil {
			copied.Labels = map[string]string{}
		}
		return metav1.ObjectMeta{
			Name: name, Namespace: isvc.Namespace, Labels: copied.Labels, Annotations: copied.Annotations,
		}
	}
	services := service.NewServiceReconciler(nil, nil, meta(), extension, pod.DeepCopy(), false, nil)
	deployments, err := deployment.NewDeploymentReconciler(
		nil, nil, meta(), metav1.ObjectMeta{}, extension, pod.DeepCopy(), nil, &v1beta1.DeployConfig{},
	)
	if err != nil {
		return component{}, err
	}
	found := component{Deployment: deployments.DeploymentList[0], Service: services.ServiceList[0]}
	switch isvc.Annotations[constants.AutoscalerClass] {
	case string(constants.AutoscalerClassHPA):
		scaler, err := hpa.NewHPAReconciler(nil, nil, meta(), extension)
		if err != nil {
			return component{}, err
		}
		found.Autoscaler = scaler.HPA
	case string(constants.AutoscalerClassKeda):
		scaler, err := keda.NewKedaReconciler(nil, nil, meta(), extension, &corev1.ConfigMap{})
		if err != nil {
			return component{}, err
		}
		found.Autoscaler = scaler.ScaledObject
	}
	return found, nil
}
