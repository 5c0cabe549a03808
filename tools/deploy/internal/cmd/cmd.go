// Package cmd reads the flags of slipway-deploy and joins its verbs with the
// session of the job, the cluster and the registry.
package cmd

import (
	"time"

	"github.com/urfave/cli/v2"

	"gitlab.com/slipway/slipway/pkg/session"
	"gitlab.com/slipway/slipway/pkg/tool"
)

const program = "slipway-deploy"

// Program returns slipway-deploy.
func Program() tool.Program {
	return tool.Program{
		Name:  program,
		Usage: "put Helm releases into clusters, say why one is not ready, and put things back",
		Commands: []tool.Command{
			{Name: "apply", Usage: "put a service, a release bundle or a set of releases into a cluster and wait until it is ready", Flags: flags(where(), access(), what(), releasing()), Run: runApply},
			{Name: "diff", Usage: "compare what would be released with what is stored; changes nothing", Flags: flags(where(), access(), what(),
				[]cli.Flag{&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 3 where there are changes"}}), Run: runDiff},
			{Name: "status", Usage: "say which revision is in place and whether it is ready; changes nothing", Flags: flags(where(), access()), Run: runStatus},
			{Name: "render", Usage: "print the manifest of a service, without a cluster", Flags: flags(where()), Run: runRender},
			{Name: "bundle", Usage: "make a signed release bundle of a service and push it", Flags: flags(folder(), []cli.Flag{
				session.LandscapeFlag(),
				&cli.StringFlag{Name: "repository", Usage: "`REPOSITORY` of bundles (default: <the project's registry>/bundle)"},
				&cli.StringFlag{Name: "dotenv", Value: "bundle.env", Usage: "`FILE` that hands SLIPWAY_BUNDLE on to later jobs"},
			}), Run: runBundle},
			{Name: "explain", Usage: "print every effective value and where it comes from; changes nothing", Flags: flags(where(), access(), what()[:1]), Run: runExplain},
		},
	}
}

func flags(groups ...[]cli.Flag) []cli.Flag {
	var all []cli.Flag
	for _, g := range groups {
		all = append(all, g...)
	}
	return all
}

func folder() []cli.Flag {
	return []cli.Flag{&cli.StringFlag{Name: "dir", Value: ".", Usage: "`FOLDER` of slipway.yaml"}}
}

func where() []cli.Flag {
	return append(folder(),
		&cli.StringFlag{Name: "environment", Usage: "`ENVIRONMENT` of the landscape"},
		&cli.StringFlag{Name: "values", Usage: "`FILE` of values that people own, the last layer; skipped where it does not exist"},
		&cli.StringSliceFlag{Name: "set", Usage: "`PATH=VALUE` over all layers, written as for helm; images keep their digests"})
}

func access() []cli.Flag {
	return []cli.Flag{
		session.LandscapeFlag(),
		&cli.StringFlag{Name: "mr", Usage: "`IID` of the merge request, for environments whose namespace has {mr}"},
		&cli.StringFlag{Name: "cluster", Usage: "`CLUSTER` of the landscape; required with --releases"},
		&cli.StringFlag{Name: "kubeconfig", Usage: "`FILE` to reach the cluster with, for people and for GitLab's agent, instead of an AWS role"},
		&cli.StringFlag{Name: "context", Usage: "`CONTEXT` of the kubeconfig (default: its current one)"},
	}
}

func what() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "releases", Usage: "`FILE` of a ReleaseSet, instead of a service"},
		&cli.StringFlag{Name: "bundle", Usage: "release `BUNDLE` by digest, instead of the files of --dir"},
	}
}

func releasing() []cli.Flag {
	return []cli.Flag{
		&cli.DurationFlag{Name: "lock-timeout", Value: 5 * time.Minute, Usage: "how long to wait for another run that works on the release"},
		&cli.StringFlag{Name: "observed", Usage: "`FILE` to write what runs after the deployment to, for slipway-promote record"},
	}
}
