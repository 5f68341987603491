// Package manifests reads what deploy/k8s comes to, as the API server would,
// and says what a reviewer would say of it. It is a module of its own so that
// who builds pushd needs nothing of Kubernetes.
package manifests

import (
	"bytes"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/json"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// Build returns what `kubectl kustomize DIR` prints.
func Build(dir string) ([]byte, error) {
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", dir, err)
	}
	return resources.AsYaml()
}

// Set is all objects of one installation.
type Set []metav1.Object

// kinds makes an empty object of each kind that there may be.
var kinds = map[metav1.TypeMeta]func() metav1.Object{
	{APIVersion: "v1", Kind: "Namespace"}:                            func() metav1.Object { return &corev1.Namespace{} },
	{APIVersion: "v1", Kind: "Service"}:                              func() metav1.Object { return &corev1.Service{} },
	{APIVersion: "v1", Kind: "ServiceAccount"}:                       func() metav1.Object { return &corev1.ServiceAccount{} },
	{APIVersion: "v1", Kind: "ConfigMap"}:                            func() metav1.Object { return &corev1.ConfigMap{} },
	{APIVersion: "v1", Kind: "Secret"}:                               func() metav1.Object { return &corev1.Secret{} },
	{APIVersion: "v1", Kind: "PersistentVolumeClaim"}:                func() metav1.Object { return &corev1.PersistentVolumeClaim{} },
	{APIVersion: "apps/v1", Kind: "Deployment"}:                      func() metav1.Object { return &appsv1.Deployment{} },
	{APIVersion: "apps/v1", Kind: "StatefulSet"}:                     func() metav1.Object { return &appsv1.StatefulSet{} },
	{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}:      func() metav1.Object { return &networkingv1.NetworkPolicy{} },
	{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:           func() metav1.Object { return &policyv1.PodDisruptionBudget{} },
	{APIVersion: "autoscaling/v2", Kind: "HorizontalPodAutoscaler"}:  func() metav1.Object { return &autoscalingv2.HorizontalPodAutoscaler{} },
	{APIVersion: "monitoring.coreos.com/v1", Kind: "ServiceMonitor"}: func() metav1.Object { return &ServiceMonitor{} },
}

// ServiceMonitor is the Prometheus operator's, as far as it is used here: its
// module would be larger than all the rest.
type ServiceMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port          string `json:"port"`
			Path          string `json:"path"`
			Interval      string `json:"interval"`
			Authorization *struct {
				Credentials *corev1.SecretKeySelector `json:"credentials"`
			} `json:"authorization"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// Decode reads documents into the types of the API, as strictly as the API
// server does with --validate=strict: a field that is unknown, written in
// another case or there twice is an error, and so is a kind that is none of kinds.
func Decode(documents []byte) (Set, error) {
	var set Set
	var errs []error
	for i, document := range bytes.Split(documents, []byte("\n---\n")) {
		object, err := decode(document)
		if err != nil {
			errs = append(errs, fmt.Errorf("document %d: %w", i+1, err))
			continue
		}
		set = append(set, object)
	}
	return set, errors.Join(errs...)
}

func decode(document []byte) (metav1.Object, error) {
	text, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return nil, err
	}
	var is metav1.TypeMeta
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &is); err != nil {
		return nil, err
	}
	make, known := kinds[is]
	if !known {
		return nil, fmt.Errorf("kind %s of %s is unknown here: add its type to kinds", is.Kind, is.APIVersion)
	}
	object := make()
	strict, err := json.UnmarshalStrict(text, object)
	if err := errors.Join(append(strict, err)...); err != nil {
		return nil, fmt.Errorf("%s %s: %w", is.Kind, object.GetName(), err)
	}
	return object, nil
}

// each returns the objects of one type.
func each[T metav1.Object](s Set) []T {
	var found []T
	for _, object := range s {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// named finds the object of a type by its name.
func named[T metav1.Object](s Set, name string) (object T, found bool) {
	for _, o := range each[T](s) {
		if o.GetName() == name {
			return o, true
		}
	}
	return object, false
}
