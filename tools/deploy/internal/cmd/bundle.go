package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/seal"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/artifact"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
)

// serviceOf returns the service that a bundle says it is of. It decides only
// which role is asked for; what is deployed is what the signature covers.
func serviceOf(ctx context.Context, s *session.Session, o options) (string, error) {
	b, err := bundle.Fetch(ctx, o.bundle, registryOf(s).Access)
	if err != nil {
		return "", err
	}
	return b.Config.Service, nil
}

// bundled is the result of bundle.
type bundled struct {
	Service string            `json:"service"`
	Bundle  string            `json:"bundle"`
	Commit  string            `json:"commit"`
	Images  map[string]string `json:"images"`
	Key     string            `json:"key"`
}

func runBundle(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true})
	if err != nil {
		return err
	}
	l, wrong := readDir(run, o)
	if l == nil {
		return wrong
	}
	var s *session.Session
	err = run.Step(ctx, "read the landscape", func(ctx context.Context) (err error) {
		s, err = session.Open(ctx, run, session.Options{Landscape: o.landscape})
		return err
	})
	if tool.CodeOf(err) == tool.Cancelled {
		return err
	}
	if err != nil {
		return config.Join(wrong, err)
	}
	files, err := filesOf(s, l)
	if err := config.Join(wrong, err); err != nil {
		return err
	}
	if err := l.fetchChart(ctx, run, o); err != nil {
		return err
	}
	repository := c.String("repository")
	if repository == "" && s.CI.RegistryImage != "" {
		repository = s.CI.RegistryImage + "/bundle"
	}
	if repository == "" {
		return tool.Exit(tool.Usage, errors.New("missing --repository"), "in a job it is <the project's registry>/bundle")
	}
	role, err := signer(s.Snapshot, l.service.Name)
	if err != nil {
		return err
	}
	i, err := authorise(ctx, run, o, s, role)
	if err != nil {
		return err
	}
	p := &prepared{session: s, identity: i, loaded: l}
	if err := images(ctx, run, p); err != nil {
		return err
	}
	content, err := contentOf(s, l, files)
	if err != nil {
		return err
	}
	registry := registryOf(s)
	var ref bundle.Reference
	err = run.Step(ctx, "push bundle", func(ctx context.Context) (err error) {
		ref, err = registry.Push(ctx, repository, content)
		return err
	})
	if err != nil {
		return err
	}
	err = run.Step(ctx, "sign bundle", func(ctx context.Context) error { return sign(ctx, registry, i, ref) })
	if err != nil {
		return err
	}
	if file := c.String("dotenv"); file != "" {
		if err := os.WriteFile(file, []byte("SLIPWAY_BUNDLE="+ref.String()+"\n"), 0o644); err != nil {
			return fmt.Errorf("writing %q: %w", file, err)
		}
	}
	return run.Result(bundled{l.service.Name, ref.String(), content.Config.Commit, l.images, s.Snapshot.BundleKey}, ref.String())
}

// signer returns the role that may sign: that of the service's first
// environment which is not gated.
func signer(s *landscape.Snapshot, service string) (landscape.Role, error) {
	for _, env := range s.Services[service].Environments {
		if s.Environments[env].Gated {
			continue
		}
		if r, err := s.RoleFor("deploy", service, env); err == nil {
			return r, nil
		}
	}
	return landscape.Role{}, tool.Exit(tool.Denied, fmt.Errorf("finding a role that may sign bundles of %q: the landscape has none", service),
		"the service needs an environment that is not gated")
}

// filesOf reads the files that go into the bundle, those of every environment,
// so that the bundle needs no repository any more. What could not be read as
// values there is refused here, all of it at once.
func filesOf(s *session.Session, l *loaded) (map[string][]byte, error) {
	files := map[string][]byte{}
	raw, err := l.source.ReadFile(config.ServiceFile)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", config.ServiceFile, err)
	}
	files[config.ServiceFile] = raw
	var wrong []error
	for _, layer := range l.service.Values {
		for _, env := range names(s.Snapshot.Environments) {
			file := strings.ReplaceAll(layer, "{environment}", env)
			if _, read := files[file]; read {
				continue // it is the same for every environment
			}
			raw, err := l.source.ReadFile(file)
			if errors.Is(err, fs.ErrNotExist) && file != layer {
				continue
			}
			if files[file] = raw; err != nil {
				wrong = append(wrong, tool.Exit(tool.Usage, fmt.Errorf("reading values %q: %w", file, err)))
				continue
			}
			_, err = config.ParseValues(file, raw)
			wrong = append(wrong, err)
		}
	}
	return files, config.Join(wrong...)
}

// contentOf gathers what goes into the bundle.
func contentOf(s *session.Session, l *loaded, files map[string][]byte) (artifact.Content, error) {
	packed, err := l.chart.Pack()
	if err != nil {
		return artifact.Content{}, err
	}
	commit := s.CI.Commit
	if s.CI.InJob {
		commit = s.Identity.Commit
	}
	// Created stays empty: the same inputs must give the same digest.
	return artifact.Content{Chart: packed, Files: files, Config: bundle.Config{Service: l.service.Name, Commit: commit,
		Project: bundle.Project{Path: s.Identity.ProjectPath, ID: s.Identity.ProjectID}, Pipeline: s.Identity.PipelineID,
		Images: l.images, Landscape: s.Digest}}, nil
}

// sign signs the bundle and reads the signature back.
func sign(ctx context.Context, registry artifact.Registry, i *identity, ref bundle.Reference) error {
	cfg, err := i.aws(ctx)
	if err != nil {
		return err
	}
	key, err := seal.NewKey(cfg, i.session.Snapshot.BundleKey)
	if err != nil {
		return tool.Exit(tool.Usage, err, "the landscape's snapshot names the key; slipway-bootstrap makes it")
	}
	b, err := bundle.Fetch(ctx, ref, registry.Access)
	if err != nil {
		return err
	}
	statement, err := json.Marshal(b.Statement())
	if err != nil {
		return fmt.Errorf("encoding the statement: %w", err)
	}
	envelope, err := seal.Sign(ctx, key, seal.BundleType, statement)
	if err != nil {
		return err
	}
	if err := registry.Attach(ctx, ref, envelope); err != nil {
		return err
	}
	public, err := key.PublicKey(ctx)
	if err != nil {
		return err
	}
	_, err = registry.Verify(ctx, ref, public)
	return err
}
