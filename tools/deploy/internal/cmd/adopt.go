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
// takes was made by somebody, who may not know of it. It takes everything of
// all releases or nothing.
func runAdopt(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	s, nodes, i, name, err := targets(ctx, run, o)
	if err != nil {
		return err
	}
	cluster, err := connect(ctx, run, o, i, name)
	if err != nil {
		return err
	}
	watcher := rollout.NewWatcher(cluster)
	defer watcher.Close()
	d := apply.Deps{Run: run, Cluster: cluster, Watcher: watcher, Owner: s.Owner, LockTimeout: o.lockTimeout, JobState: jobState(s)}
	all := make([]adopted, len(nodes))
	errs := make([]error, len(nodes))
	err = run.Step(ctx, "look for what is there", func(ctx context.Context) error {
		client := helmrelease.New(cluster, watcher, run.Log.Printf)
		for n, node := range nodes {
			list, err := client.Adoptable(ctx, node.Spec, lookup(s))
			if err != nil {
				return err
			}
			all[n] = adopted{Release: node.Name, Namespace: node.Namespace, Objects: append([]helmrelease.Adoption{}, list...)}
			errs[n] = all[n].err()
		}
		return nil
	})
	if err != nil {
		return err
	}
	run.Report.Result = all
	if err := errors.Join(errs...); err != nil {
		return tool.Exit(tool.Refused, err, "nothing was changed")
	}
	if c.Bool("take") {
		for n, node := range nodes {
			if len(all[n].Objects) == 0 {
				continue
			}
			if err := apply.Adopt(ctx, d, node.Spec, all[n].Objects, run.Step); err != nil {
				return taken(all[:n], err)
			}
			all[n].Taken = true
		}
	}
	return run.Result(all, adoptedText(all))
}

// taken tells of the releases that were adopted before one could not be.
func taken(before []adopted, err error) error {
	var names []string
	for _, a := range before {
		if a.Taken {
			names = append(names, a.Release)
		}
	}
	if len(names) == 0 {
		return err
	}
	hint := "adopted before that, and stay so: all objects of " + strings.Join(names, ", ") + "; the next adoption goes on with the rest"
	if tool.CodeOf(err) == tool.Cancelled {
		return tool.Hint(err, hint)
	}
	return tool.Exit(tool.Broken, err, hint)
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
	return fmt.Errorf("adopting into release %q: %w", a.Release, errors.Join(wrong...))
}

func adoptedText(all []adopted) string {
	var b strings.Builder
	taken, found := false, false
	for _, a := range all {
		if len(a.Objects) == 0 {
			fmt.Fprintf(&b, "%s: there is nothing to adopt in namespace %s\n", a.Release, a.Namespace)
			continue
		}
		verb := "would adopt"
		if a.Taken {
			verb = "adopted"
		}
		taken, found = taken || a.Taken, true
		for _, o := range a.Objects {
			fmt.Fprintf(&b, "%s: %s %s, %s\n", a.Release, verb, o.Object, o.Was)
		}
	}
	switch {
	case taken:
		b.WriteString("labels and annotations of ownership were written, and nothing else; slipway-deploy diff shows what the next apply would change\n")
	case found:
		b.WriteString("nothing was changed: --take adopts them\n")
	}
	return b.String()
}
