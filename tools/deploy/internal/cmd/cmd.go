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
				[]cli.Flag{&cli.BoolFlag{Name: "detailed-exitcode", Usage: "exit with 3 where there are changes"},
					&cli.BoolFlag{Name: "note", Usage: "write it to the pipeline's merge request too, as one note that is kept up to date; SLIPWAY_GITLAB_TOKEN must be a token that may"}}), Run: runDiff},
			{Name: "status", Usage: "say which revision is in place, whether it is ready and why not; changes nothing", Flags: flags(existing(), access(), looking()), Run: runStatus},
			{Name: "render", Usage: "print the manifest of a service or of a set, without a cluster", Flags: flags(where(), what()[:1]), Run: runRender},
			{Name: "bundle", Usage: "make a signed release bundle of a service and push it", Flags: flags(folder(), []cli.Flag{
				session.LandscapeFlag(),
				&cli.StringFlag{Name: "repository", Usage: "`REPOSITORY` of bundles (default: <the project's registry>/bundle)"},
				&cli.StringFlag{Name: "dotenv", Value: "bundle.env", Usage: "`FILE` that hands SLIPWAY_BUNDLE on to later jobs"},
			}), Run: runBundle},
			{Name: "stop", Usage: "remove the review app of a merge request: its release and its namespace", Flags: flags(access(), removing(), []cli.Flag{
				&cli.StringFlag{Name: "environment", Usage: "`ENVIRONMENT` of review apps"},
				&cli.StringFlag{Name: "service", Usage: "`SERVICE` of the landscape (default: the only one of the job's project)"},
			}), Run: runStop},
			{Name: "sweep", Usage: "remove review apps whose merge request has ended or whose time is over; for the platform project", Flags: flags(access(), removing(), []cli.Flag{
				&cli.StringFlag{Name: "environment", Usage: "`ENVIRONMENT` of review apps"},
				&cli.BoolFlag{Name: "dry-run", Usage: "only say what would be removed"},
			}), Run: runSweep},
			{Name: "history", Usage: "list the revisions of a release and what each was made of; changes nothing", Flags: flags(existing(), access()), Run: runHistory},
			{Name: "rollback", Usage: "go back to the last revision that was ready, or to a named one, and wait until it is ready", Flags: flags(existing(), access(), locking(),
				[]cli.Flag{&cli.IntFlag{Name: "to", Usage: "`REVISION` to go back to (default: the last one that was ready before the present one)"}}), Run: runRollback},
			{Name: "recover", Usage: "end the pending state that a dead run left, and look at what runs; deploys and deletes nothing", Flags: flags(existing(), access(), locking(),
				[]cli.Flag{&cli.BoolFlag{Name: decided, Usage: "a person's word that nobody works on the release, where that cannot be found out; refused in jobs"}}), Run: runRecover},
			{Name: "uninstall", Usage: "remove a release, wait until it is gone, and say what stays", Flags: flags(existing(), access(), locking()), Run: runUninstall},
			{Name: "test", Usage: "run the tests of the chart that is deployed", Flags: flags(existing(), access(), locking()), Run: runTest},
			{Name: "adopt", Usage: "take over a release that somebody else made, or objects without an owner; shows them, and changes nothing without --take", Flags: flags(where(), access(), what(),
				locking(), []cli.Flag{
					&cli.BoolFlag{Name: "take", Usage: "adopt what was shown"},
				}), Run: runAdopt},
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
		&cli.StringFlag{Name: "context", Usage: "`CONTEXT` of the kubeconfig (default: its current one); of KUBECONFIG where --kubeconfig is not given, such as nsflow/platform:nonprod for GitLab's agent"},
	}
}

func what() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "releases", Usage: "`FILE` of a ReleaseSet, instead of a service"},
		&cli.StringFlag{Name: "bundle", Usage: "release `BUNDLE` by digest, instead of the files of --dir"},
	}
}

func lockTimeout() cli.Flag {
	return &cli.DurationFlag{Name: "lock-timeout", Value: 5 * time.Minute, Usage: "how long to wait for another run that works on the release"}
}

func removing() []cli.Flag {
	return []cli.Flag{lockTimeout(), &cli.DurationFlag{Name: "timeout", Value: 5 * time.Minute, Usage: "how long the end of a release may take, and again that of its namespace"}}
}

func releasing() []cli.Flag {
	return []cli.Flag{
		lockTimeout(),
		&cli.StringFlag{Name: "backup", Usage: "`BACKUP` that was taken before this release; noted in it, for a rollback that is refused"},
		&cli.StringFlag{Name: "dotenv", Usage: "`FILE` to write the environment's address to, as SLIPWAY_ENVIRONMENT_URL, for environment:url"},
		&cli.StringFlag{Name: "annotations", Usage: "`FILE` to write the links of the job's page to, for artifacts:reports:annotations"},
		&cli.StringFlag{Name: "observed", Usage: "`FILE` to write what runs after the deployment to, for slipway-promote record"},
	}
}
