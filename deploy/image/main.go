package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/pushd/pushd/deploy/binary"
)

func main() {
	root := flag.String("root", "..", "module of pushd")
	out := flag.String("out", "../bin/pushd-image.tar", "file to write: docker load -i FILE, podman load -i FILE, ctr images import FILE")
	tag := flag.String("tag", "", "name of the image, with a tag: ghcr.io/pushd/pushd:v0.1.0")
	authorities := flag.String("authorities", "", "PEM file of the certificate authorities to trust; by default those of this machine")
	flag.Parse()
	if err := run(*root, *out, *tag, *authorities); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(root, out, tag, authorities string) error {
	reference, err := name.NewTag(tag, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("-tag is %q, but must be a name with a tag, such as ghcr.io/pushd/pushd:v0.1.0: %w", tag, err)
	}
	trusted, err := readAuthorities(authorities)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "pushd-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	built, err := binary.Build(root, dir)
	if err != nil {
		return err
	}
	program, err := os.ReadFile(built)
	if err != nil {
		return err
	}
	image, err := imageOf(program, trusted, reference.TagStr(), runtime.GOARCH)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	if err := save(out, reference, image); err != nil {
		return err
	}
	digest, err := image.Digest()
	if err != nil {
		return err
	}
	fmt.Printf("%s %s %s\n", out, tag, digest)
	return nil
}

// bundles are where systems keep the authorities that they trust.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"}

func readAuthorities(file string) ([]byte, error) {
	if file != "" {
		return os.ReadFile(file)
	}
	for _, bundle := range bundles {
		if text, err := os.ReadFile(bundle); err == nil {
			return text, nil
		}
	}
	return nil, errors.New("this machine has no bundle of certificate authorities where one is looked for: name one with -authorities")
}
