package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/helmrelease"
)

// past is the history of a release.
type past struct {
	Release   string  `json:"release"`
	Namespace string  `json:"namespace"`
	Revisions []event `json:"revisions"`
}

// event is a revision and what it was made of.
type event struct {
	helmrelease.Revision
	Commit string `json:"commit,omitempty"`
	Bundle string `json:"bundle,omitempty"`
}

func runHistory(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	r, err := reach(ctx, run, o, nil)
	if err != nil {
		return err
	}
	defer r.watcher.Close()
	all := []past{}
	var text strings.Builder
	for _, one := range r.releases {
		list, err := r.helm(run).History(ctx, one.Namespace, one.Name)
		if err != nil {
			return err
		}
		p := past{Release: one.Name, Namespace: one.Namespace, Revisions: []event{}}
		for _, rev := range list {
			p.Revisions = append(p.Revisions, event{rev, rev.Annotations[commitAnnotation], rev.Annotations[bundleAnnotation]})
		}
		all = append(all, p)
		text.WriteString(p.text())
	}
	return run.Result(all, text.String())
}

func (p past) text() string {
	if len(p.Revisions) == 0 {
		return fmt.Sprintf("%s is not installed in namespace %s\n", p.Release, p.Namespace)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s in namespace %s\n%8s  %-20s  %-16s  %-24s  %-12s  %s\n", p.Release, p.Namespace, "REVISION", "UPDATED", "STATUS", "CHART", "COMMIT", "DESCRIPTION")
	for _, e := range p.Revisions {
		fmt.Fprintf(&b, "%8d  %-20s  %-16s  %-24s  %-12.12s  %s\n", e.Number, e.Updated.UTC().Format(time.RFC3339), e.Status, e.Chart, e.Commit, e.Description)
		if e.Bundle != "" {
			fmt.Fprintf(&b, "%8s  bundle %s\n", "", e.Bundle)
		}
	}
	return b.String()
}
