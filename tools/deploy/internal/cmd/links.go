package cmd

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"gitlab.com/slipway/slipway/pkg/report"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/deploy/internal/gitlab"
)

// address is where people find the service in the environment: what
// slipway.yaml says, or what the landscape's domain makes of its name. It is ""
// where neither says anything.
func (p *prepared) address(o options) (string, error) {
	if own := p.loaded.service.Environments[o.environment].URL; own != "" {
		u := strings.ReplaceAll(own, "{mr}", o.mr)
		return u, tool.Exit(tool.Usage, gitlab.Address(u), "environments."+o.environment+".url of slipway.yaml; {mr} is the merge request's number")
	}
	host := p.session.Snapshot.Host(o.environment, p.target.Service, o.mr)
	if host == "" {
		return "", nil
	}
	return "https://" + host, nil
}

// leave writes what GitLab is to show of the deployment, before anything
// happens, so that a failed job has its links too. GitLab gives the environment
// its address only where the job succeeds.
func (p *prepared) leave(run *tool.Run, o options) error {
	at, err := p.address(o)
	if err != nil {
		return err
	}
	links := p.links(o, at)
	run.Report.Links = append(run.Report.Links, links...)
	if o.dotenv != "" && at != "" {
		if err := gitlab.Dotenv(o.dotenv, at); err != nil {
			return err
		}
	}
	if o.annotations == "" {
		return nil
	}
	return gitlab.Annotations(o.annotations, links)
}

func (p *prepared) links(o options, at string) []report.Link {
	var out []report.Link
	add := func(label, address string) {
		if address != "" {
			out = append(out, report.Link{Label: label, URL: address})
		}
	}
	add(p.target.Service+" in "+o.environment, at)
	add("report: what was done, what was found", gitlab.Artifact(p.session.CI.JobURL, p.session.CI.ProjectDir, filepath.Join(o.reportDir, program+".html")))
	if c, ok := p.session.Snapshot.Clusters[p.target.Cluster]; ok && c.Region != "" {
		add(fmt.Sprintf("release %s in namespace %s of cluster %s", p.target.Service, p.target.Namespace, p.target.Cluster), console(c.Region, c.EKSName))
	}
	return out
}

// console is the page of a cluster in the AWS console.
func console(region, cluster string) string {
	return "https://" + region + ".console.aws.amazon.com/eks/clusters/" + url.PathEscape(cluster) + "?region=" + url.QueryEscape(region)
}
