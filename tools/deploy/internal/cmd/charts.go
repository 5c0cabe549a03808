package cmd

import (
	"context"
	"log"
	"strings"

	"gitlab.com/slipway/slipway/pkg/cienv"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/chartsource"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
	"gitlab.com/slipway/slipway/tools/deploy/internal/refs"
)

// chartLoader loads charts with the credentials that a file names, and with
// the job's own for the registry of its instance.
func chartLoader(run *tool.Run, credentials map[string]config.Credential) *chartsource.Loader {
	// Helm tells what it finds odd about charts and values through the standard log.
	log.SetFlags(0)
	log.SetOutput(run.Log)
	ci := cienv.Read(run.Env)
	registry, _, _ := strings.Cut(ci.RegistryImage, "/")
	return chartsource.New(func(host string) (chartsource.Login, error) {
		named, ok := credentials[host]
		switch {
		case ok:
			login := chartsource.Login{User: run.Env(named.UserFrom), Password: run.Env(named.PasswordFrom)}
			if login.User == "" || login.Password == "" {
				return login, tool.Exitf(tool.Usage, "credentials of %q: the variables %s and %s must both be set", host, named.UserFrom, named.PasswordFrom)
			}
			run.Log.Redact(login.Password)
			return login, nil
		case host == registry && ci.JobToken != "":
			return chartsource.Login{User: "gitlab-ci-token", Password: ci.JobToken}, nil
		}
		return chartsource.Login{}, nil
	})
}

// assign puts --set over the layers.
func assign(o options, v *config.Values) error {
	if o.assign == "" {
		return nil
	}
	alone, err := helmrelease.Assign(o.assign, v.Map)
	if err == nil {
		v.Note("--set", alone)
	}
	return err
}

// finding is a release's chart with the values it will get.
type finding struct {
	release string
	chart   *helmrelease.Chart
	values  *config.Values
	found   *refs.Set
}

// findReferences reads the references of releases, all that are wrong at once.
func findReferences(list []*finding) error {
	var p tool.Problems
	for _, f := range list {
		var err error
		if f.found, err = refs.Find(f.values.Map, f.values.Origin); err != nil {
			p.Add("release %q: %v", f.release, err)
		}
	}
	return p.Err()
}

// fetchSecrets resolves the references of all releases with the role's
// credentials, and keeps what was fetched out of the log. It returns what was
// fetched for each.
func fetchSecrets(ctx context.Context, run *tool.Run, i *identity, list []*finding) ([][]string, error) {
	out := make([][]string, len(list))
	sets := make([]*refs.Set, len(list))
	wanted := 0
	for n, f := range list {
		sets[n] = f.found
		wanted += len(f.found.Sources())
	}
	if wanted == 0 {
		return out, nil
	}
	err := run.Step(ctx, "fetch secrets", func(ctx context.Context) error {
		cfg, err := i.aws(ctx)
		if err != nil {
			return err
		}
		for _, f := range list {
			for _, s := range f.found.Sources() {
				run.Log.Printf("%s: %s", f.release, s)
			}
		}
		if out, err = refs.NewResolver(refs.AWS{Config: cfg}).Resolve(ctx, sets...); err != nil {
			return err
		}
		for _, secrets := range out {
			for _, s := range secrets {
				redact(run, s)
			}
		}
		return nil
	})
	return out, err
}

// redact keeps a secret out of the log, as a whole and line by line.
func redact(run *tool.Run, secret string) {
	run.Log.Redact(secret)
	for line := range strings.Lines(secret) {
		run.Log.Redact(strings.TrimSpace(line))
	}
}

// checkValues holds the values of releases to the schemas of their charts, and
// names all that are wrong with the layer that said so. Once secrets were
// fetched, no reference may be left.
func checkValues(list []*finding, fetched bool) error {
	var p tool.Problems
	for _, f := range list {
		effective, violations, err := f.chart.Effective(f.values.Map)
		if err != nil {
			p.Add("release %q: %v", f.release, err)
			continue
		}
		if err := refs.Unresolved(effective, f.chart.Name()); err != nil && fetched {
			p.Add("release %q: %v", f.release, err)
		}
		for _, v := range violations {
			p.Add("release %q: chart %q: %s", f.release, v.Chart, v.Describe(f.values.Origin))
		}
	}
	err := p.Err()
	if err != nil {
		err = tool.Hint(err, "correct the values; the cluster was not touched")
	}
	return err
}

// spec is what of a release follows from its chart and values.
func (f *finding) spec(namespace string, secrets []string) helmrelease.Spec {
	return helmrelease.Spec{Name: f.release, Namespace: namespace, Chart: f.chart, Values: f.values.Map, Secrets: secrets}
}
