package estate

import (
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/organizations"

	"gitlab.com/slipway/slipway/pkg/gitlabapi"
	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/policy"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// The phases that everything else rests on.
const (
	phaseOrganization = "organization"
	phaseAccounts     = "accounts"
)

// Phases lists every resource of the landscape, in the order in which they
// need one another: keys before the roles that use them, the audit bucket
// before the trail, and the snapshot, which has the ids of them all, last.
func Phases(c *Cloud, gl *gitlabapi.Client) ([]resource.Phase, error) {
	f := c.facts
	l := f.Source.Landscape
	plan, err := f.Snapshot() // for names; ids are filled in as they become known
	if err != nil {
		return nil, err
	}
	roles := []resource.Resource{}
	entries := []resource.Resource{}
	for _, r := range plan.Roles {
		roles = append(roles, &role{c: c, role: r})
		for _, k := range r.Clusters {
			entries = append(entries, &access{c: c, role: r, cluster: k, info: plan.Clusters[k]})
		}
	}
	return []resource.Phase{
		{Name: phaseOrganization, Resources: c.organization(l)},
		{Name: phaseAccounts, Resources: c.accounts(l)},
		{Name: "keys and state", Resources: c.perAccount(l, plan)},
		{Name: "roles", Resources: roles},
		{Name: "audit trail", Resources: []resource.Resource{&trail{c: c}}},
		{Name: "cluster access", Resources: entries},
		{Name: "GitLab projects", Resources: projects(gl, plan)},
		{Name: "snapshot", Resources: []resource.Resource{publication{client: gl, facts: f}}},
	}, nil
}

func (c *Cloud) organization(l landscape.Landscape) []resource.Resource {
	api := organizations.NewFromConfig(c.base)
	out := []resource.Resource{organization{c, api}, serviceAccess{c, api, "cloudtrail.amazonaws.com"}}
	units := map[string]bool{}
	for _, a := range l.Accounts {
		if a.OU != "" {
			units[a.OU] = true
		}
	}
	for _, name := range sorted(units) {
		out = append(out, unit{c, api, name})
	}
	return out
}

func (c *Cloud) accounts(l landscape.Landscape) []resource.Resource {
	api := organizations.NewFromConfig(c.base)
	var out []resource.Resource
	for _, name := range sorted(l.Accounts) {
		if name != landscape.Management {
			out = append(out, &member{c: c, api: api, name: name})
		}
	}
	return out
}

// perAccount is what each account has: GitLab's provider, the state backend, and the
// parameters; and what one account has for all.
func (c *Cloud) perAccount(l landscape.Landscape, plan *landscape.Snapshot) []resource.Resource {
	f := c.facts
	var out []resource.Resource
	for _, name := range sorted(l.Accounts) {
		out = append(out, &provider{c: c, account: name, gitlab: plan.GitLab},
			&parameter{c: c, account: name, key: "account", value: func() string { return name }})
		if name != landscape.Management {
			stateBucket := func(id string) string { return landscape.StateBucket(l.Name, id, l.AWS.Region) }
			out = append(out,
				&key{c: c, account: name, alias: stateAlias(l.Name), policy: func() (policy.Document, bool) {
					return policy.StateKey(f.Account(name)), true
				}},
				&bucket{c: c, account: name, what: "state", name: stateBucket, keyAlias: stateAlias(l.Name), noncurrent: 90,
					policy: func() (policy.Document, bool) { return policy.StateBucket(stateBucket(f.Account(name))), true }},
				&parameter{c: c, account: name, key: "state-bucket", value: func() string { return stateBucket(f.Account(name)) }})
		}
		if name == landscape.BundleAccount {
			out = append(out, &key{c: c, account: name, alias: bundleAlias(l.Name), signing: true, policy: func() (policy.Document, bool) {
				return c.bundlePolicy(plan)
			}})
		}
		if name == l.Audit.Account {
			out = append(out, c.audit(l)...)
		}
	}
	return out
}

// bundlePolicy names the roles that sign, of which each account has its own.
func (c *Cloud) bundlePolicy(plan *landscape.Snapshot) (policy.Document, bool) {
	known := c.facts.Known().Accounts
	ready := c.facts.Organization() != ""
	var signers []landscape.Role
	for _, r := range plan.Roles {
		if r.Purpose == landscape.PurposeDeploy {
			signers = append(signers, r)
			ready = ready && known[r.Account] != ""
		}
	}
	return policy.BundleKey(known[landscape.BundleAccount], signers, known, c.facts.Organization()), ready
}

// audit is the key and the bucket of the trail.
func (c *Cloud) audit(l landscape.Landscape) []resource.Resource {
	f := c.facts
	management := f.Account(landscape.Management)
	trailARN := policy.TrailARN(l.AWS.Region, management, l.Audit.Trail)
	bucketName := func(id string) string { return landscape.AuditBucket(l.Name, id, l.AWS.Region) }
	return []resource.Resource{
		&key{c: c, account: l.Audit.Account, alias: auditAlias(l.Name), policy: func() (policy.Document, bool) {
			return policy.AuditKey(f.Account(l.Audit.Account), management, trailARN), true
		}},
		&bucket{c: c, account: l.Audit.Account, what: "audit", name: bucketName, keyAlias: auditAlias(l.Name), noncurrent: 365,
			policy: func() (policy.Document, bool) {
				org := f.Organization()
				return policy.AuditBucket(bucketName(f.Account(l.Audit.Account)), management, org, trailARN), org != ""
			}},
	}
}

// projects lists which project lets whose job tokens in: the platform's
// packages are read by all, the environments project is started by services,
// and writes its records back to them.
func projects(gl *gitlabapi.Client, s *landscape.Snapshot) []resource.Resource {
	var services []int64
	held := map[int64]landscape.Project{} // a monorepo is several services', and one project
	for _, name := range sorted(s.Services) {
		p := s.Services[name].Project
		if _, seen := held[p.ID]; !seen {
			services = append(services, p.ID)
		}
		held[p.ID] = p
	}
	environments := s.GitLab.Environments
	out := []resource.Resource{
		&project{client: gl, project: s.GitLab.Platform, allows: append([]int64{environments.ID}, services...)},
		&project{client: gl, project: environments, allows: services, push: true},
	}
	for _, id := range services {
		// The platform's sweep of review apps asks which merge requests have ended.
		out = append(out, &project{client: gl, project: held[id], allows: []int64{environments.ID, s.GitLab.Platform.ID}})
	}
	return out
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
