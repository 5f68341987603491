// Package main makes a container image of pushd from nothing but its binary: no
// base image, no daemon, no registry. The same binary makes the same image,
// byte for byte.
package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// nobody is who pushd is in the image: an arbitrary number that owns nothing, and that
// deploy/k8s and the Dockerfile have too.
const nobody = 65532

// entry is a file of the image; one that ends in a slash is a directory.
type entry struct {
	path  string
	mode  int64
	owner int
	data  []byte
}

// imageOf returns an image with the binary at /pushd and the authorities that TLS
// to others (--jwks-url, --nats) is checked by. store is where a volume may be
// mounted for --store.
func imageOf(binary, authorities []byte, version, arch string) (v1.Image, error) {
	layer, err := layerOf([]entry{
		{"etc/", 0o755, 0, nil},
		{"etc/passwd", 0o644, 0, fmt.Appendf(nil, "pushd:x:%d:%d::/:/none\n", nobody, nobody)},
		{"etc/ssl/", 0o755, 0, nil},
		{"etc/ssl/certs/", 0o755, 0, nil},
		{"etc/ssl/certs/ca-certificates.crt", 0o644, 0, authorities}, // where crypto/x509 looks first
		{"pushd", 0o755, 0, binary},
		{"var/", 0o755, 0, nil},
		{"var/lib/", 0o755, 0, nil},
		{"var/lib/pushd/", 0o700, nobody, nil},
	})
	if err != nil {
		return nil, err
	}
	image, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return nil, err
	}
	user := fmt.Sprintf("%d:%d", nobody, nobody)
	image, err = mutate.ConfigFile(image, &v1.ConfigFile{
		Architecture: arch,
		OS:           "linux",
		RootFS:       mustConfig(image).RootFS,
		Config: v1.Config{
			User:         user,
			Entrypoint:   []string{"/pushd"},
			Cmd:          []string{"serve"},
			WorkingDir:   "/",
			ExposedPorts: map[string]struct{}{"8080/tcp": {}, "8081/tcp": {}},
			StopSignal:   "SIGTERM",
			Labels: map[string]string{
				"org.opencontainers.image.title":       "pushd",
				"org.opencontainers.image.description": "Pushes what is published on NATS subjects to WebSocket clients",
				"org.opencontainers.image.licenses":    "Apache-2.0",
				"org.opencontainers.image.source":      "https://github.com/pushd/pushd",
				"org.opencontainers.image.version":     version,
			},
		},
	})
	return image, err
}

// mustConfig is of an image that was made here.
func mustConfig(image v1.Image) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil {
		panic(err)
	}
	return config
}

// layerOf packs entries, all from the same moment, in the order given.
func layerOf(entries []entry) (v1.Layer, error) {
	var packed bytes.Buffer
	w := tar.NewWriter(&packed)
	for _, e := range entries {
		header := tar.Header{Name: e.path, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.data)), ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(packed.Bytes())), nil })
}

// save writes an archive for `docker load`, `podman load` and `ctr images import`.
func save(path string, tag name.Tag, image v1.Image) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := tarball.Write(tag, image, f); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
