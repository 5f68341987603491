package manifests

import (
	"fmt"
	"reflect"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// workload is what a Deployment and a StatefulSet have in common.
type workload struct {
	kind, name string
	selector   *metav1.LabelSelector
	pod        corev1.PodTemplateSpec
	claims     []corev1.PersistentVolumeClaim
	replicas   *int32
}

func (w workload) String() string { return w.kind + " " + w.name }

func workloads(s Set) []workload {
	var all []workload
	for _, d := range each[*appsv1.Deployment](s) {
		all = append(all, workload{"Deployment", d.Name, d.Spec.Selector, d.Spec.Template, nil, d.Spec.Replicas})
	}
	for _, d := range each[*appsv1.StatefulSet](s) {
		all = append(all, workload{"StatefulSet", d.Name, d.Spec.Selector, d.Spec.Template, d.Spec.VolumeClaimTemplates, d.Spec.Replicas})
	}
	return all
}

// selected returns the workloads whose pods a selector takes. One that is empty
// takes all of them, which nothing here means.
func selected(s Set, selector *metav1.LabelSelector) []workload {
	var found []workload
	for _, w := range workloads(s) {
		if selects(selector, w.pod.Labels) {
			found = append(found, w)
		}
	}
	return found
}

func selects(selector *metav1.LabelSelector, of map[string]string) bool {
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	return err == nil && !parsed.Empty() && parsed.Matches(labels.Set(of))
}

// port returns the number of one that the containers of a workload open, by name or number.
func (w workload) port(wanted intstr.IntOrString) (int32, bool) {
	for _, c := range w.pod.Spec.Containers {
		for _, p := range c.Ports {
			if wanted.Type == intstr.String && p.Name == wanted.StrVal || wanted.Type == intstr.Int && p.ContainerPort == wanted.IntVal {
				return p.ContainerPort, true
			}
		}
	}
	return 0, false
}

// report collects what is wrong.
type report struct{ found []string }

func (r *report) addf(format string, args ...any) {
	r.found = append(r.found, fmt.Sprintf(format, args...))
}

// require adds a line where ok is false.
func (r *report) require(ok bool, format string, args ...any) {
	if !ok {
		r.addf(format, args...)
	}
}

// kindOf is the kind of an object, for messages.
func kindOf(o metav1.Object) string { return reflect.TypeOf(o).Elem().Name() + " " + o.GetName() }
