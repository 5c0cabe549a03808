package cmd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// adopted is what a release would take over, or took over.
type adopted struct {
	Release   string                 `json:"release"`
	Namespace string                 `json:"namespace"`
	Taken     bool                   `json:"taken"`
	Objects   []helmrelease.Adoption `json:"objects"`
}

// runAdopt shows what would be adopted, and adopts only with --take: what it
// takes was made by somebody, who may not know of it.
func runAdopt(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	p, err := prepare(ctx, run, o)
	if err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, p.identity, p.target.Cluster)
	if err != nil {
		return err
	}
	spec, err := p.loaded.spec(p.target.Namespace)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	d := apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: p.session.Owner, LockTimeout: o.lockTimeout, JobState: jobState(p.session)}
	out := adopted{Release: spec.Name, Namespace: spec.Namespace, Objects: []helmrelease.Adoption{}}
	err = run.Step(ctx, "look for what is there", func(ctx context.Context) error {
		list, err := helmrelease.New(cluster, watcher, run.Log.Printf).Adoptable(ctx, spec)
		out.Objects = append(out.Objects, list...)
		return err
	})
	if err != nil {
		return err
	}
	run.Report.Result = out
	if err := out.err(); err != nil {
		return err
	}
	if c.Bool("take") && len(out.Objects) > 0 {
		if err := apply.Adopt(ctx, d, spec, out.Objects, run.Step); err != nil {
			return err
		}
		out.Taken = true
	}
	return run.Result(out, out.text())
}

// err names all that cannot be adopted: it is everything or nothing.
func (a adopted) err() error {
	var wrong []error
	for _, o := range a.Objects {
		if o.Problem != "" {
			wrong = append(wrong, fmt.Errorf("%s is %s; %s", o.Object, o.Was, o.Problem))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	return tool.Exit(tool.Refused, fmt.Errorf("adopting into release %q: %w", a.Release, errors.Join(wrong...)), "nothing was changed")
}

func (a adopted) text() string {
	if len(a.Objects) == 0 {
		return fmt.Sprintf("%s: there is nothing to adopt in namespace %s", a.Release, a.Namespace)
	}
	var b strings.Builder
	verb := "would adopt"
	if a.Taken {
		verb = "adopted"
	}
	for _, o := range a.Objects {
		fmt.Fprintf(&b, "%s: %s %s, %s\n", a.Release, verb, o.Object, o.Was)
	}
	if a.Taken {
		b.WriteString("labels and annotations of ownership were written, and nothing else; slipway-deploy diff shows what the next apply would change\n")
	} else {
		b.WriteString("nothing was changed: --take adopts them\n")
	}
	return b.String()
}
