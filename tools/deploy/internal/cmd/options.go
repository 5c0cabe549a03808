package cmd

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
)

// options are the flags of the verbs that work on releases.
type options struct {
	dir, environment, values string
	landscape, mr, cluster   string
	kubeconfig, context      string
	releases                 string // the file of a set
	assign                   string // --set, as helm reads it
	bundle                   bundle.Reference
	lockTimeout              time.Duration
	observed                 string
}

// needs says what a verb cannot do without.
type needs struct{ landscape, environment bool }

// read takes the flags and names everything that is wrong with them.
func read(run *tool.Run, c *cli.Context, n needs) (options, error) {
	o := options{dir: c.String("dir"), environment: c.String("environment"), values: c.String("values"),
		mr: c.String("mr"), cluster: c.String("cluster"), kubeconfig: c.String("kubeconfig"), context: c.String("context"),
		releases: c.String("releases"), assign: strings.Join(c.StringSlice("set"), ","), lockTimeout: c.Duration("lock-timeout"), observed: c.String("observed"),
		landscape: session.Landscape(c, run.Env)}
	var p tool.Problems
	if n.landscape {
		p.Need(o.landscape, "landscape")
	}
	if o.releases != "" {
		p.Need(o.cluster, "cluster")
		p.Check(o.environment == "", "--environment does not go with --releases")
		p.Check(c.String("bundle") == "", "--bundle does not go with --releases")
		p.Check(o.observed == "", "--observed does not go with --releases")
		p.Check(o.values == "", "--values does not go with --releases")
		p.Check(o.assign == "", "--set does not go with --releases: each release has its own layers")
	} else if n.environment {
		p.Need(o.environment, "environment")
	}
	if b := c.String("bundle"); b != "" {
		ref, err := bundle.Parse(b)
		if err != nil {
			p.Add("--bundle: %v", err)
		}
		o.bundle = ref
		p.Check(o.assign == "", "--set does not go with --bundle, which is deployed as it was signed")
	}
	p.Check(o.context == "" || o.kubeconfig != "", "--context needs --kubeconfig")
	p.Check(o.lockTimeout >= 0, "--lock-timeout must not be negative, got %s", o.lockTimeout)
	if o.kubeconfig != "" {
		_, err := os.Stat(o.kubeconfig)
		p.Check(err == nil, "--kubeconfig %q cannot be read", o.kubeconfig)
	}
	if o.releases != "" {
		_, err := os.Stat(o.releases)
		p.Check(err == nil, "--releases %q cannot be read", o.releases)
	}
	for _, one := range c.StringSlice("set") {
		p.Check(!strings.HasSuffix(one, ".yaml") || strings.Contains(o.assign, "="), "--set %q is no path=value; a file of releases is named with --releases", one)
	}
	abs, err := filepath.Abs(o.dir)
	p.Check(err == nil, "--dir %q: %v", o.dir, err)
	o.dir = abs
	return o, p.Err()
}
