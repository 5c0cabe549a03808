package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/seal"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/pkg/yamlfile"
	"gitlab.com/slipway/slipway/tools/deploy/internal/artifact"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// Annotations of the stored chart: what a revision is made of, so that it is
// known again after a rollback.
const (
	bundleAnnotation   = "slipway.dev/bundle"
	imagesAnnotation   = "slipway.dev/images"
	commitAnnotation   = "slipway.dev/commit"
	projectAnnotation  = "slipway.dev/project"
	refAnnotation      = "slipway.dev/ref"
	pipelineAnnotation = "slipway.dev/pipeline"
)

// dirSource reads files below a folder, and none outside.
type dirSource struct{ dir string }

// ReadFile reads a file.
func (s dirSource) ReadFile(name string) ([]byte, error) {
	root, err := os.OpenRoot(s.dir)
	if err != nil {
		return nil, fmt.Errorf("opening folder %q: %w", s.dir, err)
	}
	defer root.Close()
	return root.ReadFile(filepath.FromSlash(name))
}

// loaded is a service as it will be released.
type loaded struct {
	service *config.Service
	source  config.Source
	chart   *helmrelease.Chart
	images  map[string]string
	commit  string
	bundle  string
	from    origin
	backup  string // taken before this release

	values  *config.Values
	secrets []string // fetched for the values
}

// readDir reads slipway.yaml in a folder, and the images from the variables of
// the job. With an error comes the service as far as it could be read, nil
// where it could not at all.
func readDir(run *tool.Run, o options) (*loaded, error) {
	l := &loaded{source: dirSource{o.dir}}
	raw, err := l.source.ReadFile(config.ServiceFile)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading %s of %q: %w", config.ServiceFile, o.dir, err), "--dir names the folder of a service")
	}
	l.service, err = config.ReadService(config.ServiceFile, raw)
	if l.service == nil {
		return nil, err
	}
	var ierr error
	l.images, ierr = l.service.References(run.Env)
	return l, config.Join(err, ierr)
}

// readValues is readDir, and makes the values for an environment. What they
// refer to is fetched later, but whether it can be a reference is seen here.
func readValues(run *tool.Run, o options) (*loaded, error) {
	l, err := readDir(run, o)
	if l == nil {
		return nil, err
	}
	return l, config.Join(err, l.assemble(run, o), findReferences([]*finding{l.finding()}))
}

// loadDir reads all of a service from its folder, and its chart from where it is.
func loadDir(ctx context.Context, run *tool.Run, o options) (*loaded, error) {
	l, err := readValues(run, o)
	if err != nil {
		return nil, err
	}
	return l, l.fetchChart(ctx, run, o)
}

func (l *loaded) fetchChart(ctx context.Context, run *tool.Run, o options) (err error) {
	l.chart, err = chartLoader(run, l.service.Credentials).Load(ctx, o.dir, l.service.Chart)
	return err
}

// loadBundle verifies a bundle's signature with the environment's role, and
// only then unpacks it.
func loadBundle(ctx context.Context, run *tool.Run, o options, i *identity, registry artifact.Registry) (*loaded, error) {
	cfg, err := i.aws(ctx)
	if err != nil {
		return nil, err
	}
	key, err := seal.NewKey(cfg, i.session.Snapshot.BundleKey)
	if err != nil {
		return nil, tool.Exit(tool.Usage, err, "the landscape's snapshot names the key; slipway-bootstrap makes it")
	}
	public, err := key.PublicKey(ctx)
	if err != nil {
		return nil, err
	}
	b, err := registry.Verify(ctx, o.bundle, public)
	if err != nil {
		return nil, err
	}
	run.Log.Printf("bundle of %s at commit %s: the signature is by %s", b.Config.Service, b.Config.Commit, key.KeyID())
	packed, files, err := registry.Open(ctx, o.bundle)
	if err != nil {
		return nil, err
	}
	l := &loaded{source: files, images: b.Config.Images, commit: b.Config.Commit, bundle: o.bundle.String(),
		from: origin{Project: b.Config.Project.ID, Pipeline: b.Config.Pipeline, Commit: b.Config.Commit}}
	raw, err := files.ReadFile(config.ServiceFile)
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading bundle %q: %w", o.bundle, err))
	}
	if l.service, err = config.ReadService(o.bundle.String()+":"+config.ServiceFile, raw); err != nil {
		return nil, err
	}
	if l.service.Name != b.Config.Service {
		return nil, tool.Exitf(tool.Refused, "bundle %q is signed for service %q and holds %q", o.bundle, b.Config.Service, l.service.Name)
	}
	if l.chart, err = helmrelease.LoadArchive(packed, o.bundle.String()); err != nil {
		return nil, err
	}
	if err := l.chart.From(l.service.Chart.String()); err != nil {
		return nil, err
	}
	return l, l.assemble(run, o)
}

// assemble makes the values: the service's layers, then the layer that people
// own, then --set, then the images: which image runs no layer may say. All that
// is wrong with them is told.
func (l *loaded) assemble(run *tool.Run, o options) error {
	var layers, own error
	l.values, layers = config.Layers(l.source, l.service.Values, o.environment)
	if o.values != "" {
		var raw []byte
		raw, own = valuesFile(o.values)
		switch {
		case own != nil:
		case raw == nil:
			l.values.Miss(o.values)
		default:
			own = l.values.Add(o.values, raw)
		}
	}
	for _, layer := range l.values.Layers {
		if !layer.Found {
			run.Log.Printf("no values in %s: skipped", layer.File)
		}
	}
	return config.Join(layers, own, assign(o, l.values), l.service.SetImages(l.values, l.images))
}

// settle fetches what the values refer to, and holds them to the chart's schema.
func (l *loaded) settle(ctx context.Context, run *tool.Run, i *identity) error {
	list := []*finding{l.finding()}
	if err := findReferences(list); err != nil {
		return err
	}
	secrets, err := fetchSecrets(ctx, run, i, list)
	if err != nil {
		return err
	}
	l.secrets = secrets[0]
	return checkValues(list, true)
}

func (l *loaded) finding() *finding {
	return &finding{release: l.service.Name, chart: l.chart, values: l.values}
}

// valuesFile returns the layer that people own, or nil where there is none.
func valuesFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, tool.Exit(tool.Usage, fmt.Errorf("reading --values %q: %w", path, err))
	}
	return raw, nil
}

// spec returns the release, with what it is made of noted in its chart.
func (l *loaded) spec(namespace string) (helmrelease.Spec, error) {
	images, err := json.Marshal(l.images)
	if err != nil {
		return helmrelease.Spec{}, fmt.Errorf("encoding the images: %w", err)
	}
	l.chart.Annotate(imagesAnnotation, string(images))
	if m := l.service.Migrations; m != nil {
		l.chart.Annotate(helmrelease.MigrationsAnnotation, m.Compatibility)
	}
	if l.backup != "" {
		l.chart.Annotate(helmrelease.BackupAnnotation, l.backup)
	}
	if l.commit != "" {
		l.chart.Annotate(commitAnnotation, l.commit)
	}
	if l.bundle != "" {
		l.chart.Annotate(bundleAnnotation, l.bundle)
	}
	l.from.note(l.chart)
	spec := l.finding().spec(namespace, l.secrets)
	spec.Tenant = true
	return spec, nil
}

// known refuses environments of slipway.yaml that the landscape does not have.
func (l *loaded) known(s *landscape.Snapshot) error {
	var p yamlfile.Problems
	for _, name := range names(l.service.Environments) {
		if _, ok := s.Environments[name]; !ok {
			p = append(p, l.service.Problem("environments."+name, fmt.Sprintf("the landscape has no environment %q", name), "it has "+strings.Join(names(s.Environments), ", ")))
		}
	}
	return p.Err()
}
