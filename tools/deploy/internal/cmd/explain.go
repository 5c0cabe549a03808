package cmd

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/rollout"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/config"
	"gitlab.com/slipway/slipway/tools/deploy/internal/mask"
)

// effective is a value and where it comes from.
type effective struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Source string `json:"source"`
}

func runExplain(ctx context.Context, run *tool.Run, c *cli.Context) error {
	o, err := read(run, c, needs{landscape: true, environment: true})
	if err != nil {
		return err
	}
	if o.releases != "" {
		return explainSet(ctx, run, o)
	}
	l, err := loadDir(ctx, run, o)
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, run, session.Options{Landscape: o.landscape})
	if err != nil {
		return err
	}
	t, err := resolve(s, o, l.service.Name)
	if err != nil {
		return err
	}
	var rows []effective
	add := func(name, value, source string) { rows = append(rows, effective{name, value, source}) }
	for _, flag := range []string{"dir", "environment", "values", "landscape", "mr", "cluster", "kubeconfig", "context"} {
		if v := c.String(flag); v != "" {
			add(flag, v, sourceOf(run.Env, c, flag))
		}
	}
	if o.assign != "" {
		add("set", mask.Assignments(o.assign), "flag --set, or variable "+tool.EnvName(program, "set")+"; over all layers")
	}
	add("service", l.service.Name, config.ServiceFile+": name")
	add("chart", l.chart.Name()+" "+l.chart.Version(), config.ServiceFile+": chart "+l.service.Chart.String())
	add("chart digest", l.chart.Digest(), "of the archive")
	for _, layer := range l.values.Layers {
		found := "read"
		if !layer.Found {
			found = "not there, skipped"
		}
		add("values", layer.File, found)
	}
	f := l.finding()
	if err := findReferences([]*finding{f}); err != nil {
		return err
	}
	for _, s := range f.found.Sources() {
		add("secret", s, "a reference in the values; fetched by the role")
	}
	for _, name := range names(l.images) {
		add("images."+name, l.images[name], "variable "+l.service.Images[name].From+", set at value "+l.service.Images[name].Value)
	}
	timeout, stable := l.service.Rollout.Wait()
	set := func(given bool, field string) string {
		if given {
			return config.ServiceFile + ": " + field
		}
		return "default"
	}
	add("rollout.timeout", timeout.String(), set(l.service.Rollout.Timeout != nil, "rollout.timeout"))
	add("rollout.stable", window(stable), set(l.service.Rollout.Stable != nil, "rollout.stable"))
	restore, why := l.service.Restores()
	add("restore after a failed upgrade", fmt.Sprint(restore), set(l.service.Rollout.OnFailure != "", "rollout.onFailure")+" "+why)
	if m := l.service.Migrations; m != nil {
		add("migrations", m.Job+", "+m.Compatibility, config.ServiceFile+": a job of the chart; waited for like every job")
	}
	if r := l.service.Secrets.Runtime; len(r) > 0 {
		add("secrets.runtime", strings.Join(r, ", "), config.ServiceFile+": fetched by the pods; this program never reads them")
	}
	add("namespace", t.Namespace, "landscape: environments."+o.environment+".namespace")
	add("cluster", t.Cluster, "landscape: environments."+o.environment)
	add("gated", fmt.Sprint(t.Gated), "landscape: environments."+o.environment+".gated")
	add("role", t.Role.ARN, "landscape: role "+t.Role.Name)
	add("landscape digest", s.Digest, "the snapshot")
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%-32s %s  (%s)\n", r.Name, r.Value, strings.TrimSpace(r.Source))
	}
	return run.Result(rows, b.String())
}

// sourceOf says where the value of a flag came from.
func sourceOf(env func(string) string, c *cli.Context, flag string) string {
	variable := tool.EnvName(program, flag)
	switch {
	case env(variable) != "" && env(variable) == c.String(flag):
		return "variable " + variable
	case c.IsSet(flag):
		return "flag --" + flag
	}
	return "default"
}

// window says how long everything must stay ready.
func window(stable time.Duration) string {
	if stable == rollout.ByWorkload {
		return fmt.Sprintf("minReadySeconds of the workload, or %s", rollout.DefaultStable)
	}
	return stable.String()
}
