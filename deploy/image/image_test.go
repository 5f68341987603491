package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"debug/elf"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const tag = "ghcr.io/pushd/pushd:v0.1.0"

// The same sources make the same image, and its binary runs without anything else.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	var digests []v1.Hash
	var image v1.Image
	for _, out := range []string{"first.tar", "second.tar"} {
		out = filepath.Join(dir, out)
		if err := run("../..", out, tag, ""); err != nil {
			t.Fatal(err)
		}
		loaded, err := tarball.ImageFromPath(out, nil)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := loaded.Digest()
		if err != nil {
			t.Fatal(err)
		}
		image, digests = loaded, append(digests, digest)
	}
	if digests[0] != digests[1] {
		t.Errorf("two builds have digests %v", digests)
	}

	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if is := config.Config; is.User != "65532:65532" || !slices.Equal(is.Entrypoint, []string{"/pushd"}) || !slices.Equal(is.Cmd, []string{"serve"}) ||
		is.Labels["org.opencontainers.image.version"] != "v0.1.0" || config.OS != "linux" || config.Architecture != runtime.GOARCH {
		t.Errorf("configuration: %+v of %s/%s", is, config.OS, config.Architecture)
	}

	files := unpack(t, image)
	if pool := x509.NewCertPool(); !pool.AppendCertsFromPEM(files["etc/ssl/certs/ca-certificates.crt"].data) {
		t.Error("the image trusts no certificate authority")
	}
	if store := files["var/lib/pushd/"]; store.owner != nobody || store.mode != 0o700 {
		t.Errorf("/var/lib/pushd is of %d, mode %o", store.owner, store.mode)
	}
	for name, file := range files {
		if file.mode&0o6022 != 0 {
			t.Errorf("%s has mode %o: others could write it, or run it as its owner", name, file.mode)
		}
	}
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "pushd")
	if err := os.WriteFile(program, files["pushd"].data, 0o755); err != nil {
		t.Fatal(err)
	}
	if interpreter := interpreterOf(program); interpreter != "" {
		t.Errorf("the binary needs %s, which the image lacks", interpreter)
	}
	said, err := exec.Command(program, "version").Output()
	if err != nil || !strings.HasPrefix(string(said), "pushd ") {
		t.Errorf("version says %q, %v", said, err)
	}
}

// unpack returns the files of the only layer.
func unpack(t *testing.T, image v1.Image) map[string]entry {
	t.Helper()
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	packed, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	files := make(map[string]entry)
	for r := tar.NewReader(packed); ; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 || header.Uid != header.Gid {
			t.Errorf("%s is of %v, %d:%d", header.Name, header.ModTime, header.Uid, header.Gid)
		}
		files[header.Name] = entry{header.Name, header.Mode, header.Uid, data}
	}
}

// A change of anything in it is another image.
func TestDigest(t *testing.T) {
	digest := func(binary, authorities, version string) string {
		image, err := imageOf([]byte(binary), []byte(authorities), version, "amd64")
		if err != nil {
			t.Fatal(err)
		}
		d, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	first := digest("binary", "authorities", "v1")
	if again := digest("binary", "authorities", "v1"); again != first {
		t.Errorf("%s and %s of the same", first, again)
	}
	for _, other := range []string{digest("binary2", "authorities", "v1"), digest("binary", "authorities2", "v1"), digest("binary", "authorities", "v2")} {
		if other == first {
			t.Error("another content has the same digest")
		}
	}
}

func TestMistakes(t *testing.T) {
	for _, test := range []struct{ tag, authorities, want string }{
		{"", "", "-tag"},
		{"ghcr.io/pushd/pushd", "", "-tag"},
		{tag, "none.pem", "none.pem"},
	} {
		if err := run("../..", filepath.Join(t.TempDir(), "x.tar"), test.tag, test.authorities); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q, %q: %v", test.tag, test.authorities, err)
		}
	}
}

// The Dockerfile makes what the program here makes, and the Makefile calls it what manifests do.
func TestSame(t *testing.T) {
	dockerfile, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"FROM scratch\n", "USER 65532:65532\n", `ENTRYPOINT ["/pushd"]`, `CMD ["serve"]`, "STOPSIGNAL SIGTERM\n", "CGO_ENABLED=0", "/out/files/etc/ssl/certs/ && ", "chmod 0700 /out/store/pushd && ", "--chown=65532:65532 /out/store/ /var/lib/\n"} {
		if !bytes.Contains(dockerfile, []byte(want)) {
			t.Errorf("the Dockerfile lacks %q", want)
		}
	}
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.ReadFile("../k8s/base/kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	named := regexp.MustCompile(`newName: (\S+)\n +newTag: (\S+)`).FindSubmatch(base)
	if named == nil || !bytes.Contains(makefile, []byte("IMAGE    ?= "+string(named[1])+":"+string(named[2])+"\n")) {
		t.Errorf("the Makefile and deploy/k8s/base name different images: %q", named)
	}
}

// interpreterOf is the dynamic loader that a program asks for, "" where it is static.
func interpreterOf(program string) string {
	f, err := elf.Open(program)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return "a dynamic loader"
		}
	}
	return ""
}
