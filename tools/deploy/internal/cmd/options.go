package cmd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/bundle"
	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/mask"
)

// options are the flags of the verbs that work on releases.
type options struct {
	dir, environment, values string
	landscape, mr, cluster   string
	kubeconfig, context      string
	releases                 string // the file of a set
	assign                   string // --set, as helm reads it
	service, release         string // of those that are there
	bundle                   bundle.Reference
	lockTimeout              time.Duration
	observed                 string
	dotenv, annotations      string
	reportDir                string
	looks                    bool // the verb changes nothing
}

// number is the iid of a merge request: it becomes part of names.
var number = regexp.MustCompile(`^[1-9][0-9]{0,9}$`)

// needs says what a verb cannot do without.
type needs struct{ landscape, environment, release bool }

// read takes the flags and names everything that is wrong with them.
func read(run *tool.Run, c *cli.Context, n needs) (options, error) {
	o := options{dir: c.String("dir"), environment: c.String("environment"), values: c.String("values"),
		mr: c.String("mr"), cluster: c.String("cluster"), kubeconfig: c.String("kubeconfig"), context: c.String("context"),
		releases: c.String("releases"), assign: strings.Join(c.StringSlice("set"), ","), lockTimeout: c.Duration("lock-timeout"), observed: c.String("observed"),
		dotenv: c.String("dotenv"), annotations: c.String("annotations"), reportDir: c.String("report-dir"),
		service: c.String("service"), release: c.String("release"),
		landscape: session.Landscape(c, run.Env)}
	if o.context != "" && o.kubeconfig == "" {
		o.kubeconfig = run.Env("KUBECONFIG") // as GitLab gives it to jobs that may use an agent
	}
	if o.assign != "" {
		run.Report.Inputs["set"] = mask.Assignments(o.assign)
	}
	var p tool.Problems
	if n.landscape {
		p.Need(o.landscape, "landscape")
	}
	if o.releases != "" {
		if n.landscape {
			p.Need(o.cluster, "cluster")
		}
		p.Check(o.environment == "", "--environment does not go with --releases")
		p.Check(c.String("bundle") == "", "--bundle does not go with --releases")
		p.Check(o.observed == "", "--observed does not go with --releases")
		p.Check(o.dotenv == "", "--dotenv does not go with --releases")
		p.Check(o.annotations == "", "--annotations does not go with --releases")
		p.Check(!c.Bool("note"), "--note does not go with --releases")
		p.Check(o.values == "", "--values does not go with --releases")
		p.Check(o.service == "", "--service does not go with --releases")
		p.Check(o.release != "" || !n.release, "missing --release: one of the set at a time")
		p.Check(o.assign == "", "--set does not go with --releases: each release has its own layers")
	} else if n.environment {
		p.Need(o.environment, "environment")
		p.Check(o.release == "", "--release needs --releases")
	}
	p.Check(!c.IsSet("to") || c.Int("to") > 0, "--to is the number of a revision, got %d", c.Int("to"))
	if b := c.String("bundle"); b != "" {
		ref, err := bundle.Parse(b)
		if err != nil {
			p.Add("--bundle: %v", err)
		}
		o.bundle = ref
		p.Check(o.assign == "", "--set does not go with --bundle, which is deployed as it was signed")
	}
	p.Check(o.context == "" || o.kubeconfig != "", "--context needs --kubeconfig, or KUBECONFIG as GitLab's agents give it to a job")
	p.Check(o.mr == "" || number.MatchString(o.mr), "--mr is the number of a merge request, got %q", o.mr)
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
