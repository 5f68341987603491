package manifests

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/pushd/pushd/deploy/binary"
	"github.com/pushd/pushd/deploy/tooltest"
)

const overlays = "../k8s/overlays"

// built has what is made once for all tests, since kustomize takes a second for an overlay.
var built struct {
	pushd    string // the program
	settings map[string]any
	overlays map[string]string // documents by name
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "pushd-manifests-")
	if err == nil {
		err = prepare(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func prepare(dir string) (err error) {
	if built.pushd, err = binary.Build("../..", dir); err != nil {
		return err
	}
	out, err := exec.Command(built.pushd, "config").Output()
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(out, &built.settings); err != nil {
		return err
	}
	entries, err := os.ReadDir(overlays)
	built.overlays = make(map[string]string)
	for _, entry := range entries {
		documents, err := Build(filepath.Join(overlays, entry.Name()))
		if err != nil {
			return err
		}
		built.overlays[entry.Name()] = string(documents)
	}
	return err
}

// build returns an overlay's documents.
func build(t *testing.T, overlay string) string {
	t.Helper()
	if built.overlays[overlay] == "" {
		t.Fatalf("there is no overlay %s", overlay)
	}
	return built.overlays[overlay]
}

// byHand returns the secrets that an overlay tells its operator to make.
func byHand(t *testing.T, overlay string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(overlays, overlay, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, found := range regexp.MustCompile(`create secret generic (\S+)`).FindAllStringSubmatch(string(text), -1) {
		names = append(names, found[1])
	}
	return names
}

// wrong returns all that is wrong with documents.
func wrong(documents string, secrets []string) string {
	set, err := Decode([]byte(documents))
	if err != nil {
		return err.Error()
	}
	return strings.Join(append(Review(set, secrets), Settings(set)...), "\n")
}

func TestOverlays(t *testing.T) {
	if len(built.overlays) < 2 {
		t.Fatalf("%d overlays", len(built.overlays))
	}
	for overlay, documents := range built.overlays {
		t.Run(overlay, func(t *testing.T) {
			if found := wrong(documents, byHand(t, overlay)); found != "" {
				t.Error(found)
			}
			if err := ask(t, documents); err != nil {
				t.Error(err)
			}
		})
	}

	// The program notices what no schema can.
	for _, test := range []struct{ name, overlay, old, new, want string }{
		{"a setting that does not exist", "prod", "handshake-rate: 2000", "handshake-pace: 2000", "handshake-pace"},
		{"a value that is none", "prod", "max-connections: 200000", "max-connections: many", "max-connections"},
		{"a flag that does not exist", "dev", "--demo", "--demonstrate", "--demonstrate"},
		{"a variable that does not exist", "prod", "PUSHD_NODE_NAME", "PUSHD_NODENAME", "PUSHD_NODE_NAME"},
		{"listening to everybody, and asking nobody", "dev", "        - --open\n", "", "--open"},
		{"replicas of a NATS that is alone", "prod", "      - nats://nats-0.nats:4222\n      - nats://nats-1.nats:4222\n      - nats://nats-2.nats:4222\n", "", "replicas"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := ask(t, change(t, build(t, test.overlay), test.old, test.new)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want a word of %s", err, test.want)
			}
		})
	}
}

// ask has the program judge documents.
func ask(t *testing.T, documents string) error {
	t.Helper()
	set, err := Decode([]byte(documents))
	if err != nil {
		t.Fatal(err)
	}
	return Ask(set, built.pushd, t.TempDir())
}

// change replaces the first occurrence of old, which has to be there.
func change(t *testing.T, text, old, new string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("%q is not in\n%s", old, text)
	}
	return strings.Replace(text, old, new, 1)
}

// Each rule can fail.
func TestReview(t *testing.T) {
	for _, test := range []struct{ overlay, old, new, want string }{
		// Decoding.
		{"prod", "kind: PodDisruptionBudget", "kind: PodDisruption", "kind PodDisruption of policy/v1 is unknown"},
		{"prod", "  maxUnavailable: 1\n", "  maxUnavailible: 1\n", `unknown field "spec.maxUnavailible"`},
		{"prod", "  minReplicas: 3", "  minreplicas: 3", `unknown field "spec.minreplicas"`},
		{"prod", "  minReplicas: 3\n", "  minReplicas: 3\n  minReplicas: 3\n", "already set"},
		{"prod", "  minReplicas: 3", "  minReplicas: three", "cannot unmarshal"},
		{"prod", "interval: 15s", "intervall: 15s", `unknown field "spec.endpoints[0].intervall"`},
		// Names, selectors and ports.
		{"dev", "pod-security.kubernetes.io/enforce: restricted", "pod-security.kubernetes.io/enforce: baseline", "does not enforce restricted"},
		{"dev", "  namespace: pushd-dev", "  namespace: default", `is in namespace "default"`},
		{"dev", "  selector:\n    app.kubernetes.io/component: server", "  selector:\n    app.kubernetes.io/component: sever", "selects no pod"},
		{"prod", "      app.kubernetes.io/component: server\n      app.kubernetes.io/name: pushd\n  strategy", "      app.kubernetes.io/component: sever\n  strategy", "does not select its own pods"},
		{"prod", "targetPort: clients", "targetPort: client", "port client of Deployment pushd does not exist"},
		{"prod", "  serviceName: nats", "  serviceName: natz", "headless service natz does not exist"},
		{"prod", "- port: admin\n      protocol: TCP", "- port: operators\n      protocol: TCP", "NetworkPolicy pushd: port operators"},
		{"prod", "- port: 4222\n      protocol: TCP", "- port: 4223\n      protocol: TCP", "port 4223 of StatefulSet nats does not exist"},
		{"prod", "k8s-app: kube-dns", "k8s-app: kube-dns\n          app.kubernetes.io/name: pushd", "resolve no names"},
		{"prod", "          app.kubernetes.io/name: nats\n  ingress", "          app.kubernetes.io/name: nats\n          app.kubernetes.io/component: server\n  ingress", "does not let Deployment pushd out to port 4222 of StatefulSet nats"},
		{"prod", "  - from:\n    - podSelector:\n        matchLabels:\n          app.kubernetes.io/component: server", "  - from:\n    - podSelector:\n        matchLabels:\n          app.kubernetes.io/component: sever", "does not let Deployment pushd in to port 4222"},
		{"prod", "nats://nats-1.nats:4222", "nats://nats-1.natz:4222", "there is no service natz"},
		{"prod", "path: /metrics\n    port: admin", "path: /metrics\n    port: metrics", "has a port metrics"},
		{"prod", "maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: server", "maxUnavailable: 1\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: sever", "PodDisruptionBudget pushd selects the pods of 0 workloads"},
		{"prod", "  maxUnavailable: 1\n  selector", "  maxUnavailable: 0\n  selector", "lets no pod go"},
		{"prod", "    kind: Deployment\n    name: pushd", "    kind: Deployment\n    name: push", "Deployment push does not exist"},
		{"prod", "  minReplicas: 3", "  minReplicas: 30", "minReplicas must be"},
		{"prod", "spec:\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: server", "spec:\n  replicas: 3\n  selector:\n    matchLabels:\n      app.kubernetes.io/component: server", "has replicas"},
		{"prod", "averageValue: \"120000\"", "averageValue: \"180000\"", "at most two thirds"},
		// Volumes and secrets.
		{"prod", "- mountPath: /etc/pushd\n          name: config", "- mountPath: /etc/pushd\n          name: settings", "mounts volume settings"},
		{"prod", "secretName: pushd-tokens", "secretName: pushd-token", "secret pushd-token neither exists"},
		{"prod", "mountPath: /run/secrets/pushd-tokens", "mountPath: /run/secrets/tokens", "where nothing is mounted"},
		{"dev", "claimName: pushd-data", "claimName: data", "PersistentVolumeClaim data does not exist"},
		{"dev", "mountPath: /var/lib/pushd", "mountPath: /var/lib/push", "where nothing is mounted"},
		{"dev", "--config=/etc/pushd/pushd.yaml", "--config=/etc/pushd/push.yaml", "which no ConfigMap brings there"},
		// Privileges and resources.
		{"dev", "automountServiceAccountToken: false\nkind", "automountServiceAccountToken: true\nkind", "has its token mounted"},
		{"dev", "      automountServiceAccountToken: false\n", "", "mounts the token"},
		{"dev", "runAsUser: 65532", "runAsUser: 0", "may run as root"},
		{"dev", "          type: RuntimeDefault", "          type: Unconfined", "no seccomp profile"},
		{"dev", "allowPrivilegeEscalation: false", "allowPrivilegeEscalation: true", "may gain privileges"},
		{"dev", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "may write to its root"},
		{"dev", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: true\n          privileged: true", "is privileged"},
		{"dev", "            - ALL", "            - NET_RAW", "keeps capabilities"},
		{"dev", "      enableServiceLinks: false", "      enableServiceLinks: false\n      hostNetwork: true", "shares namespaces"},
		{"dev", "            cpu: 100m\n", "", "requests no CPU"},
		{"dev", "            memory: 512Mi", "            memory: 128Mi", "one below its request"},
		{"dev", "            memory: 512Mi", "            memory: 256Mi", "GOMEMLIMIT must be"},
		{"dev", "resource: requests.memory", "resource: limits.memory", "GOMEMLIMIT must be"},
		{"dev", "            memory: 512Mi", "            memory: 512Mi\n            cpu: 1", "throttled"},
		{"dev", "name: GOMEMLIMIT", "name: GOMEMLIMITS", "GOMEMLIMIT is not set"},
		{"dev", "name: GOMEMLIMIT", "name: PUSHD_NODE_NAME", "is set twice"},
		{"dev", "image: ghcr.io/pushd/pushd:v0.1.0", "image: ghcr.io/pushd/pushd:latest", "has no tag of a version"},
		{"dev", "image: ghcr.io/pushd/pushd:v0.1.0", "image: localhost:5000/pushd", "has no tag of a version"},
		// Probes and the end.
		{"dev", "            path: /readyz\n            port: clients", "            path: /readyz\n            port: http", "asks port http"},
		{"dev", "        livenessProbe:", "        startupProbe:", "already set"},
		{"dev", "terminationGracePeriodSeconds: 120", "terminationGracePeriodSeconds: 102", "must exceed preStop"},
		{"dev", "drain-window: 60s", "drain-window: 2m", "must exceed preStop"},
		{"dev", "listen: 0.0.0.0:8080", "listen: 0.0.0.0:8088", "which is not the port clients"},
	} {
		documents := change(t, build(t, test.overlay), test.old, test.new)
		if found := wrong(documents, byHand(t, test.overlay)); !strings.Contains(found, test.want) {
			t.Errorf("%s with %q instead of %q: got %q, want %q", test.overlay, test.new, test.old, found, test.want)
		}
	}
}

// The kustomize that kubectl has makes the same of it.
func TestKubectl(t *testing.T) {
	kubectl := tooltest.Find(t, "kubectl", "as kubernetes.io/docs/tasks/tools says")
	for _, overlay := range []string{"dev", "prod"} {
		out, err := exec.Command(kubectl, "kustomize", filepath.Join(overlays, overlay)).Output()
		if err != nil {
			t.Fatalf("%s: %v", overlay, err)
		}
		ours, theirs := objects(t, build(t, overlay)), objects(t, string(out))
		for name := range maps.Keys(theirs) {
			if diff := cmp.Diff(ours[name], theirs[name]); diff != "" {
				t.Errorf("%s, %s: the library (-) and kubectl (+) differ:\n%s", overlay, name, diff)
			}
		}
		if len(ours) != len(theirs) {
			t.Errorf("%s: the library makes %d objects, and kubectl %d", overlay, len(ours), len(theirs))
		}
	}
}

// objects is documents without their order, by kind and name.
func objects(t *testing.T, documents string) map[string]any {
	t.Helper()
	all := make(map[string]any)
	for document := range strings.SplitSeq(documents, "\n---\n") {
		var object struct {
			Kind     string
			Metadata struct{ Name string }
		}
		var whole map[string]any
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal([]byte(document), &whole); err != nil {
			t.Fatal(err)
		}
		all[object.Kind+" "+object.Metadata.Name] = whole
	}
	return all
}

// What is taken for pushd's defaults are those of the binary.
func TestDefaults(t *testing.T) {
	for name, want := range map[string]string{"drain-grace": defaultGrace.String(), "drain-window": defaultWindow.String(), "shutdown-timeout": defaultShutdown.String()} {
		if built.settings[name] != want {
			t.Errorf("%s is %v by default, and taken for %s", name, built.settings[name], want)
		}
	}
}
