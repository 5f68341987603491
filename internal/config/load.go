package config

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/alecthomas/kong"
)

// Sources says where each setting came from: "default", "FILE:LINE:COLUMN",
// "env NAME" or "flag --NAME". The keys are those of the file, with dots for
// what is nested: "heartbeat", "namespaces.stocks.delivery". What has no entry
// is a default.
type Sources map[string]string

const sourceDefault = "default"

// of returns the source of a key; what is set as a whole sets its parts.
func (s Sources) of(key string) string {
	if source, ok := s[key]; ok {
		return source
	}
	return sourceDefault
}

// Load completes what kong has filled from flags, environment and defaults
// with the file that --config names, and checks the whole. All that is wrong
// comes back, a line each: unknown keys and variables, values that are none,
// and what [Config.Validate] finds, with the place where it was set.
//
// The file is read here and is no kong.Resolver, because kong lets a resolver
// override the environment, and the environment must be the stronger one.
func Load(parsed *kong.Context, flags *Flags) (Config, Sources, error) {
	c := Config(*flags)
	sources := make(Sources)
	for _, s := range settings(&c) {
		for _, name := range s.Envs {
			if _, set := os.LookupEnv(name); set {
				sources[s.Name] = "env " + name
			}
		}
	}
	for _, step := range parsed.Path {
		if step.Flag != nil {
			sources[step.Flag.Name] = "flag --" + step.Flag.Name
		}
	}
	empty := c.readSecrets(sources)
	applyDefaults(&c.Default) // kong does not see it
	err := errors.Join(empty, unknownVariables(os.Environ(), append(variables(parsed.Model), secretVariables...)), complete(&c, sources))
	return c, sources, err
}

// Check reports all that is wrong with a file by itself, with neither flags
// nor environment.
func Check(path string) error {
	c := Default()
	c.File = path
	return complete(&c, make(Sources))
}

// complete reads the file, if there is one, and validates what came together.
func complete(c *Config, sources Sources) error {
	if c.File != "" {
		if err := (&file{path: c.File, sources: sources}).read(c); err != nil {
			return err // what it says of itself comes first: the rest may follow from it
		}
	}
	errs := sources.unfilled(c)
	for _, p := range c.problems() {
		errs = append(errs, sources.locate(p))
	}
	return errors.Join(errs...)
}

// locate puts the place in front of a problem that the command line does not
// show: a file or an environment variable.
func (s Sources) locate(p problem) error {
	source := s.of(p.key)
	if source == sourceDefault || strings.HasPrefix(source, "flag ") {
		return errors.New(p.text)
	}
	return fmt.Errorf("%s: %s", source, p.text)
}

// variables returns the environment variables of every command.
func variables(model *kong.Application) []string {
	var names []string
	_ = kong.Visit(model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			names = append(names, flag.Envs...)
		}
		return next(nil)
	})
	return names
}

// envPrefix starts the name of every environment variable that is a setting.
const envPrefix = "PUSHD_"

func unknownVariables(environ, known []string) error {
	var errs []error
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, envPrefix) || slices.Contains(known, name) || fromKubernetes(name, value) {
			continue
		}
		errs = append(errs, fmt.Errorf("environment: unknown variable %s, the nearest known is %s", name, nearest(name, known)))
	}
	return errors.Join(errs...)
}

// fromKubernetes recognises what Kubernetes puts into every container of a
// namespace where a Service has a name that starts with pushd: PUSHD_PORT is
// tcp://10.0.0.1:80 there. A PUSHD_PORT of 8080 is somebody's mistake.
func fromKubernetes(name, value string) bool {
	const service = `^PUSHD_(\w+_)?`
	return regexp.MustCompile(service+`SERVICE_(HOST|PORT(_\w+)?)$`).MatchString(name) ||
		regexp.MustCompile(service+`PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?$`).MatchString(name) &&
			(strings.Contains(name, "_PORT_") || strings.Contains(value, "://"))
}

// nearest returns the known name that takes the fewest changes to reach.
func nearest(name string, known []string) string {
	best, least := "", -1
	for _, candidate := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.ComputeDistance(name, candidate); least < 0 || d < least {
			best, least = candidate, d
		}
	}
	return best
}
