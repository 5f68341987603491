package manifests

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// defaults of pushd that count here; TestDefaults holds them to the binary.
const (
	defaultGrace    = 0 * time.Second
	defaultWindow   = 30 * time.Second
	defaultShutdown = 10 * time.Second
)

// server is the container that runs pushd, with what it is told.
type server struct {
	workload workload
	spec     corev1.Container
	flags    []string       // of serve, without --config
	file     string         // the text of --config
	settings map[string]any // of the file, and of flags, which are stronger
}

// findServer finds the container whose first argument is serve.
func findServer(s Set) (server, error) {
	for _, w := range workloads(s) {
		for _, c := range w.pod.Spec.Containers {
			if len(c.Args) > 0 && c.Args[0] == "serve" {
				return readServer(s, server{workload: w, spec: c})
			}
		}
	}
	return server{}, fmt.Errorf("no container runs pushd serve")
}

func readServer(s Set, p server) (server, error) {
	const configFlag = "--config="
	var config string
	for _, arg := range p.spec.Args[1:] {
		if file, is := strings.CutPrefix(arg, configFlag); is {
			config = file
		} else {
			p.flags = append(p.flags, arg)
		}
	}
	var err error
	if p.file, err = p.mountedText(s, config); err != nil {
		return p, err
	}
	if err := yaml.UnmarshalStrict([]byte(p.file), &p.settings); err != nil {
		return p, fmt.Errorf("%s: %w", config, err)
	}
	for _, flag := range p.flags {
		name, value, _ := strings.Cut(strings.TrimPrefix(flag, "--"), "=")
		p.settings[name] = value
	}
	return p, nil
}

// mountedText returns the text that a path has in the container, from a ConfigMap.
func (p server) mountedText(s Set, file string) (string, error) {
	for _, m := range p.spec.VolumeMounts {
		for _, v := range p.workload.pod.Spec.Volumes {
			if m.Name != v.Name || v.ConfigMap == nil || m.MountPath != path.Dir(file) {
				continue
			}
			if mapped, found := named[*corev1.ConfigMap](s, v.ConfigMap.Name); found && mapped.Data[path.Base(file)] != "" {
				return mapped.Data[path.Base(file)], nil
			}
		}
	}
	return "", fmt.Errorf("%s: --config names %q, which no ConfigMap brings there", p.workload, file)
}

// Settings returns what is wrong between a set and what its pushd is told.
func Settings(s Set) []string {
	r := &report{}
	p, err := findServer(s)
	if err != nil {
		return []string{err.Error()}
	}
	p.paths(r)
	p.end(r)
	p.memory(r)
	p.scale(s, r)
	p.upstream(s, r)
	for flag, port := range map[string]string{"listen": "clients", "admin": "admin"} {
		address := fmt.Sprint(p.settings[flag])
		open := slices.ContainsFunc(p.spec.Ports, func(c corev1.ContainerPort) bool {
			return c.Name == port && strings.HasSuffix(address, fmt.Sprintf(":%d", c.ContainerPort))
		})
		r.require(open, "%s: %s is %s, which is not the port %s of the container", p.workload, flag, address, port)
	}
	return r.found
}

// paths: each file that a setting names is in a volume, for the root has none.
func (p server) paths(r *report) {
	for name, value := range p.settings {
		file, is := value.(string)
		if !is || !strings.HasPrefix(file, "/") {
			continue
		}
		r.require(slices.ContainsFunc(p.spec.VolumeMounts, func(m corev1.VolumeMount) bool {
			return file == m.MountPath || strings.HasPrefix(file, m.MountPath+"/")
		}), "%s: %s is %s, where nothing is mounted", p.workload, name, file)
	}
}

// end: the kubelet waits until the drain is over.
func (p server) end(r *report) {
	var before time.Duration
	if l := p.spec.Lifecycle; l != nil && l.PreStop != nil && l.PreStop.Sleep != nil {
		before = time.Duration(l.PreStop.Sleep.Seconds) * time.Second
	}
	window := p.duration(r, "drain-window", defaultWindow)
	slack := window/4 + 2*time.Second // for clients that do not leave when the window ends
	least := before + p.duration(r, "drain-grace", defaultGrace) + window + slack + p.duration(r, "shutdown-timeout", defaultShutdown)
	grace := p.workload.pod.Spec.TerminationGracePeriodSeconds
	r.require(grace != nil && time.Duration(*grace)*time.Second > least,
		"%s: terminationGracePeriodSeconds must exceed preStop, drain-grace, 1.25 x drain-window + 2 s and shutdown-timeout together, %v", p.workload, least)
}

func (p server) duration(r *report, name string, otherwise time.Duration) time.Duration {
	value, set := p.settings[name]
	if !set {
		return otherwise
	}
	d, err := time.ParseDuration(fmt.Sprint(value))
	r.require(err == nil, "%s: %s is %v, and no duration", p.workload, name, value)
	return d
}

// memory: the collector works harder before the kernel kills, and leaves room
// for the kernel's part of each connection.
func (p server) memory(r *report) {
	for _, e := range p.spec.Env {
		if e.Name == "GOMEMLIMIT" {
			r.require(e.ValueFrom != nil && e.ValueFrom.ResourceFieldRef != nil && e.ValueFrom.ResourceFieldRef.Resource == "requests.memory" &&
				p.spec.Resources.Requests.Memory().Cmp(*p.spec.Resources.Limits.Memory()) < 0,
				"%s: GOMEMLIMIT must be requests.memory, and that less than the limit: sockets count for the limit, and the collector does not know them", p.workload)
			return
		}
	}
	r.addf("%s: GOMEMLIMIT is not set", p.workload)
}

// scale: the autoscaler acts before a pod is full.
func (p server) scale(s Set, r *report) {
	for _, o := range each[*autoscalingv2.HorizontalPodAutoscaler](s) {
		for _, m := range o.Spec.Metrics {
			if m.Pods == nil || m.Pods.Metric.Name != "pushd_connections" || m.Pods.Target.AverageValue == nil {
				r.addf("HorizontalPodAutoscaler %s does not count pushd_connections", o.Name)
				continue
			}
			most, set := p.settings["max-connections"].(float64)
			r.require(set && m.Pods.Target.AverageValue.AsApproximateFloat64() <= most*2/3,
				"HorizontalPodAutoscaler %s: its average must be at most two thirds of max-connections, so that one of three pods may go", o.Name)
		}
	}
}

// upstream: NATS and names can be reached, as network policies have it.
func (p server) upstream(s Set, r *report) {
	for _, o := range each[*networkingv1.NetworkPolicy](s) {
		if selects(&o.Spec.PodSelector, p.workload.pod.Labels) && slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			r.require(slices.ContainsFunc(o.Spec.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
				return peers(rule.To, map[string]string{"k8s-app": "kube-dns"}) && lets(rule.Ports, workload{}, 53)
			}), "NetworkPolicy %s lets %s resolve no names", o.Name, p.workload)
		}
	}
	servers, _ := p.settings["nats"].([]any)
	for _, server := range servers {
		u, err := url.Parse(fmt.Sprint(server))
		if err != nil {
			r.addf("%s: nats has %v: %v", p.workload, server, err)
			continue
		}
		port, _ := strconv.Atoi(u.Port())
		name := u.Hostname()[strings.LastIndexByte(u.Hostname(), '.')+1:] // nats-0.nats is a pod of the service nats
		service, found := named[*corev1.Service](s, name)
		if !found {
			r.addf("%s: nats has %v, and there is no service %s", p.workload, server, name)
			continue
		}
		for _, w := range selected(s, metav1.SetAsLabelSelector(service.Spec.Selector)) {
			p.mayReach(s, r, w, int32(port))
		}
	}
}

// mayReach: the policies of both sides let pushd connect to a port of a workload.
func (p server) mayReach(s Set, r *report, w workload, port int32) {
	_, open := w.port(intstr.FromInt32(port))
	r.require(open, "%s: port %d of %s does not exist", p.workload, port, w)
	for _, o := range each[*networkingv1.NetworkPolicy](s) {
		if selects(&o.Spec.PodSelector, p.workload.pod.Labels) && slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeEgress) {
			r.require(slices.ContainsFunc(o.Spec.Egress, func(rule networkingv1.NetworkPolicyEgressRule) bool {
				return peers(rule.To, w.pod.Labels) && lets(rule.Ports, w, port)
			}), "NetworkPolicy %s does not let %s out to port %d of %s", o.Name, p.workload, port, w)
		}
		if selects(&o.Spec.PodSelector, w.pod.Labels) && slices.Contains(o.Spec.PolicyTypes, networkingv1.PolicyTypeIngress) {
			r.require(slices.ContainsFunc(o.Spec.Ingress, func(rule networkingv1.NetworkPolicyIngressRule) bool {
				return peers(rule.From, p.workload.pod.Labels) && lets(rule.Ports, w, port)
			}), "NetworkPolicy %s does not let %s in to port %d of %s", o.Name, p.workload, port, w)
		}
	}
}

func peers(all []networkingv1.NetworkPolicyPeer, labels map[string]string) bool {
	return slices.ContainsFunc(all, func(peer networkingv1.NetworkPolicyPeer) bool {
		return peer.PodSelector != nil && selects(peer.PodSelector, labels)
	})
}

// lets reports whether a port is among those of a policy, which may name it.
func lets(ports []networkingv1.NetworkPolicyPort, of workload, wanted int32) bool {
	return slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if p.Port == nil {
			return true
		}
		number, open := of.port(*p.Port)
		return p.Port.IntVal == wanted || open && number == wanted
	})
}

// Ask has the program itself judge what its container is told. Files of
// secrets are in dir, with their paths changed.
func Ask(s Set, pushd, dir string) error {
	p, err := findServer(s)
	if err != nil {
		return err
	}
	file := p.file
	flags := slices.Clone(p.flags)
	for name, value := range p.settings {
		text, is := value.(string)
		if !is || !strings.HasPrefix(text, "/") {
			continue
		}
		here := filepath.Join(dir, filepath.FromSlash(text))
		if err := os.MkdirAll(filepath.Dir(here), 0o700); err != nil {
			return err
		}
		if strings.HasSuffix(name, "-file") {
			if err := os.WriteFile(here, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
				return err
			}
		}
		file = strings.ReplaceAll(file, text, here)
		for i := range flags {
			flags[i] = strings.ReplaceAll(flags[i], text, here)
		}
	}
	config := filepath.Join(dir, "pushd.yaml")
	if err := os.WriteFile(config, []byte(file), 0o600); err != nil {
		return err
	}
	command := exec.Command(pushd, append([]string{"config", "--config=" + config}, flags...)...)
	for _, e := range p.spec.Env {
		value := e.Value
		if e.ValueFrom != nil && e.ValueFrom.FieldRef != nil {
			value = "pushd-5d9c7b6f4-abcde" // a pod's name
		}
		if value != "" {
			command.Env = append(command.Env, e.Name+"="+value)
		}
	}
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("pushd config: %w\n%s", err, out)
	}
	return nil
}
