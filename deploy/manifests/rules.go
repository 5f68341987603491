package manifests

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Review returns all that is wrong with a set, a line each. secrets are those
// that an operator makes by hand.
func Review(s Set, secrets []string) []string {
	r := &report{}
	namespaces(s, r)
	selectors(s, r)
	services(s, r)
	policies(s, r)
	monitors(s, r, secrets)
	targets(s, r)
	for _, w := range workloads(s) {
		account(s, r, w)
		volumes(s, r, w, secrets)
		privileges(r, w)
		for _, c := range append(slices.Clone(w.pod.Spec.InitContainers), w.pod.Spec.Containers...) {
			container(r, w, c)
		}
	}
	return r.found
}

// namespaces: there is one, it is restricted, and everything is in it.
func namespaces(s Set, r *report) {
	all := each[*corev1.Namespace](s)
	if len(all) != 1 {
		r.addf("there are %d namespaces, want one", len(all))
		return
	}
	r.require(all[0].Labels["pod-security.kubernetes.io/enforce"] == "restricted", "Namespace %s does not enforce restricted", all[0].Name)
	for _, o := range s {
		if _, is := o.(*corev1.Namespace); !is && o.GetNamespace() != all[0].Name {
			r.addf("%s is in namespace %q, want %q", kindOf(o), o.GetNamespace(), all[0].Name)
		}
	}
}

// selectors: each takes somebody.
func selectors(s Set, r *report) {
	for _, w := range workloads(s) {
		r.require(selects(w.selector, w.pod.Labels), "%s does not select its own pods", w)
		for _, c := range w.pod.Spec.TopologySpreadConstraints {
			r.require(selects(c.LabelSelector, w.pod.Labels), "%s is spread over %s by labels that its pods lack", w, c.TopologyKey)
		}
	}
	for _, o := range each[*corev1.Service](s) {
		r.require(len(selected(s, metav1.SetAsLabelSelector(o.Spec.Selector))) > 0, "Service %s selects no pod", o.Name)
	}
	for _, o := range each[*policyv1.PodDisruptionBudget](s) {
		r.require(len(selected(s, o.Spec.Selector)) == 1, "PodDisruptionBudget %s selects the pods of %d workloads, want one", o.Name, len(selected(s, o.Spec.Selector)))
		r.require(o.Spec.MaxUnavailable != nil && o.Spec.MaxUnavailable.IntValue() > 0, "PodDisruptionBudget %s lets no pod go: a node could not be drained", o.Name)
	}
	for _, o := range each[*networkingv1.NetworkPolicy](s) {
		r.require(len(selected(s, &o.Spec.PodSelector)) > 0, "NetworkPolicy %s selects no pod", o.Name)
	}
}

// services: their ports are open in the pods; those of a StatefulSet are there.
func services(s Set, r *report) {
	for _, o := range each[*corev1.Service](s) {
		for _, p := range o.Spec.Ports {
			target := p.TargetPort
			if target == (intstr.IntOrString{}) {
				target = intstr.FromInt32(p.Port)
			}
			for _, w := range selected(s, metav1.SetAsLabelSelector(o.Spec.Selector)) {
				_, open := w.port(target)
				r.require(open, "Service %s: port %s of %s does not exist", o.Name, target.String(), w)
			}
		}
	}
	for _, o := range each[*appsv1.StatefulSet](s) {
		service, found := named[*corev1.Service](s, o.Spec.ServiceName)
		r.require(found && service.Spec.ClusterIP == corev1.ClusterIPNone, "StatefulSet %s: headless service %s does not exist", o.Name, o.Spec.ServiceName)
	}
}

// policies: ports that they name are open in the pods.
func policies(s Set, r *report) {
	for _, o := range each[*networkingv1.NetworkPolicy](s) {
		for _, in := range o.Spec.Ingress {
			for _, w := range selected(s, &o.Spec.PodSelector) {
				policyPorts(r, o.Name, w, in.Ports)
			}
		}
		for _, out := range o.Spec.Egress {
			for _, to := range out.To {
				if to.NamespaceSelector == nil && to.PodSelector != nil {
					for _, w := range selected(s, to.PodSelector) {
						policyPorts(r, o.Name, w, out.Ports)
					}
				}
			}
		}
	}
}

func policyPorts(r *report, policy string, w workload, ports []networkingv1.NetworkPolicyPort) {
	for _, p := range ports {
		if p.Port != nil {
			_, open := w.port(*p.Port)
			r.require(open, "NetworkPolicy %s: port %s of %s does not exist", policy, p.Port.String(), w)
		}
	}
}

// monitors: there is a service with the port that is scraped.
func monitors(s Set, r *report, secrets []string) {
	for _, o := range each[*ServiceMonitor](s) {
		for _, e := range o.Spec.Endpoints {
			r.require(slices.ContainsFunc(each[*corev1.Service](s), func(service *corev1.Service) bool {
				return selects(&o.Spec.Selector, service.Labels) &&
					slices.ContainsFunc(service.Spec.Ports, func(p corev1.ServicePort) bool { return p.Name == e.Port })
			}), "ServiceMonitor %s: no service that it selects has a port %s", o.Name, e.Port)
			if e.Authorization != nil && e.Authorization.Credentials != nil {
				r.require(hasSecret(s, e.Authorization.Credentials.Name, secrets), "ServiceMonitor %s: secret %s does not exist", o.Name, e.Authorization.Credentials.Name)
			}
		}
	}
}

func hasSecret(s Set, name string, secrets []string) bool {
	_, made := named[*corev1.Secret](s, name)
	return made || slices.Contains(secrets, name)
}

// targets: autoscalers scale something that nobody else does.
func targets(s Set, r *report) {
	for _, o := range each[*autoscalingv2.HorizontalPodAutoscaler](s) {
		target := o.Spec.ScaleTargetRef
		i := slices.IndexFunc(workloads(s), func(w workload) bool { return w.kind == target.Kind && w.name == target.Name })
		if i < 0 {
			r.addf("HorizontalPodAutoscaler %s: %s %s does not exist", o.Name, target.Kind, target.Name)
			continue
		}
		r.require(workloads(s)[i].replicas == nil, "%s has replicas, which the autoscaler would be set back to at each apply", workloads(s)[i])
		r.require(o.Spec.MinReplicas != nil && *o.Spec.MinReplicas >= 2 && *o.Spec.MinReplicas <= o.Spec.MaxReplicas, "HorizontalPodAutoscaler %s: minReplicas must be 2 to maxReplicas", o.Name)
	}
}

// account: the pod has no token of Kubernetes.
func account(s Set, r *report, w workload) {
	spec := w.pod.Spec
	r.require(spec.AutomountServiceAccountToken != nil && !*spec.AutomountServiceAccountToken, "%s mounts the token of its service account", w)
	if spec.ServiceAccountName == "" {
		return
	}
	account, found := named[*corev1.ServiceAccount](s, spec.ServiceAccountName)
	if !found {
		r.addf("%s: service account %s does not exist", w, spec.ServiceAccountName)
		return
	}
	r.require(account.AutomountServiceAccountToken != nil && !*account.AutomountServiceAccountToken, "ServiceAccount %s has its token mounted", account.Name)
}

// volumes: what is mounted is there, and what is there is mounted.
func volumes(s Set, r *report, w workload, secrets []string) {
	mounted := make(map[string]bool)
	for _, c := range w.pod.Spec.Containers {
		for _, m := range c.VolumeMounts {
			mounted[m.Name] = true
		}
	}
	for _, v := range w.pod.Spec.Volumes {
		r.require(mounted[v.Name], "%s: volume %s is mounted nowhere", w, v.Name)
		delete(mounted, v.Name)
		switch {
		case v.ConfigMap != nil:
			_, found := named[*corev1.ConfigMap](s, v.ConfigMap.Name)
			r.require(found, "%s: ConfigMap %s does not exist", w, v.ConfigMap.Name)
		case v.Secret != nil:
			r.require(hasSecret(s, v.Secret.SecretName, secrets), "%s: secret %s neither exists nor is its making told", w, v.Secret.SecretName)
		case v.PersistentVolumeClaim != nil:
			_, found := named[*corev1.PersistentVolumeClaim](s, v.PersistentVolumeClaim.ClaimName)
			r.require(found, "%s: PersistentVolumeClaim %s does not exist", w, v.PersistentVolumeClaim.ClaimName)
		default:
			r.addf("%s: volume %s is none of configMap, secret and persistentVolumeClaim", w, v.Name)
		}
	}
	for _, claim := range w.claims {
		delete(mounted, claim.Name)
	}
	for name := range mounted {
		r.addf("%s mounts volume %s, which does not exist", w, name)
	}
}

// privileges: the pod shares nothing of its node.
func privileges(r *report, w workload) {
	spec, context := w.pod.Spec, w.pod.Spec.SecurityContext
	r.require(!spec.HostNetwork && !spec.HostPID && !spec.HostIPC, "%s shares namespaces of its node", w)
	if context == nil {
		r.addf("%s has no securityContext", w)
		return
	}
	r.require(context.RunAsNonRoot != nil && *context.RunAsNonRoot && context.RunAsUser != nil && *context.RunAsUser != 0, "%s may run as root", w)
	r.require(context.SeccompProfile != nil && context.SeccompProfile.Type == corev1.SeccompProfileTypeRuntimeDefault, "%s has no seccomp profile", w)
}

// container: what it may, what it gets, where it is asked.
func container(r *report, w workload, c corev1.Container) {
	context := c.SecurityContext
	if context == nil {
		context = &corev1.SecurityContext{}
	}
	isFalse := func(b *bool) bool { return b != nil && !*b }
	r.require(isFalse(context.AllowPrivilegeEscalation), "%s: container %s may gain privileges", w, c.Name)
	r.require(context.Privileged == nil || !*context.Privileged, "%s: container %s is privileged", w, c.Name)
	r.require(context.ReadOnlyRootFilesystem != nil && *context.ReadOnlyRootFilesystem, "%s: container %s may write to its root", w, c.Name)
	r.require(context.RunAsUser == nil || *context.RunAsUser != 0, "%s: container %s runs as root", w, c.Name)
	r.require(context.Capabilities != nil && slices.Equal(context.Capabilities.Drop, []corev1.Capability{"ALL"}) && len(context.Capabilities.Add) == 0, "%s: container %s keeps capabilities", w, c.Name)

	requests, limits := c.Resources.Requests, c.Resources.Limits
	r.require(!requests.Cpu().IsZero() && !requests.Memory().IsZero(), "%s: container %s requests no CPU or memory", w, c.Name)
	r.require(!limits.Memory().IsZero() && limits.Memory().Cmp(*requests.Memory()) >= 0, "%s: container %s has no limit of memory, or one below its request", w, c.Name)
	r.require(limits.Cpu().IsZero(), "%s: container %s is throttled by a limit of CPU", w, c.Name)

	_, tag, tagged := strings.Cut(c.Image[strings.LastIndexByte(c.Image, '/')+1:], ":")
	r.require(tagged && tag != "" && tag != "latest", "%s: image %s has no tag of a version", w, c.Image)

	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil {
			r.addf("%s: container %s has no %s probe by HTTP", w, c.Name, name)
			continue
		}
		_, open := w.port(probe.HTTPGet.Port)
		r.require(open, "%s: the %s probe of %s asks port %s, which does not exist", w, name, c.Name, probe.HTTPGet.Port.String())
	}
	seen := make(map[string]bool)
	for _, e := range c.Env {
		r.require(!seen[e.Name], "%s: %s is set twice", w, e.Name)
		seen[e.Name] = true
	}
}
