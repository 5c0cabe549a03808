package cmd

import (
	"context"
	"fmt"
	"strings"

	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/apply"
)

// explained is a release of a set and what decides about it.
type explained struct {
	Release   string       `json:"release"`
	Namespace string       `json:"namespace"`
	Chart     string       `json:"chart"`
	Source    string       `json:"source"`
	Digest    string       `json:"digest"`
	Values    []string     `json:"values,omitempty"`
	Secrets   []string     `json:"secrets,omitempty"` // fetched for its values
	Timeout   string       `json:"timeout"`
	Stable    string       `json:"stable"`
	Needs     []apply.Need `json:"needs,omitempty"`
}

// explainSet prints what a set would be released from and in which order. It
// assumes no role and fetches no secret.
func explainSet(ctx context.Context, run *tool.Run, o options) error {
	p := &preparedSet{}
	err := p.read(o)
	if err != nil {
		return err
	}
	if p.session, err = session.Open(ctx, run, session.Options{Landscape: o.landscape}); err != nil {
		return err
	}
	if err := p.load(ctx, run, o); err != nil {
		return err
	}
	if err := p.order(ctx, run, make([][]string, len(p.list))); err != nil {
		return err
	}
	var rows []explained
	var b strings.Builder
	for i, n := range p.nodes {
		r := p.set.Releases[i]
		e := explained{Release: n.Name, Namespace: n.Namespace, Chart: n.Chart.Name() + " " + n.Chart.Version(), Source: r.Chart.String(),
			Digest: n.Chart.Digest(), Values: r.Values, Secrets: p.list[i].found.Sources(), Timeout: n.Timeout.String(), Stable: window(n.Stable), Needs: n.Needs}
		rows = append(rows, e)
		e.print(&b)
	}
	return run.Result(rows, b.String())
}

func (e explained) print(b *strings.Builder) {
	fmt.Fprintf(b, "%s in namespace %s\n", e.Release, e.Namespace)
	fmt.Fprintf(b, "  chart    %s  (%s, archive %s)\n", e.Chart, e.Source, e.Digest)
	fmt.Fprintf(b, "  rollout  timeout %s, stable %s\n", e.Timeout, e.Stable)
	for _, v := range e.Values {
		fmt.Fprintf(b, "  values   %s\n", v)
	}
	for _, s := range e.Secrets {
		fmt.Fprintf(b, "  secret   %s\n", s)
	}
	for _, n := range e.Needs {
		fmt.Fprintf(b, "  needs    %s  (%s)\n", n.Name, n.Why)
	}
}
