package landscape

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gitlab.com/slipway/slipway/pkg/yamlfile"
)

// Known is what bootstrap knows of the live organisation. Offline it is what
// the files say, which is nothing but the ids of adopted accounts.
type Known struct {
	Accounts  map[string]string // account -> id
	StateKeys map[string]string // account -> ARN of the key of its state backend
	BundleKey string            // ARN of the key that signs bundles
}

// Purposes of roles, as Role.Purpose has them.
const (
	PurposeBootstrap   = "bootstrap"
	PurposePlan        = "plan"
	PurposeApply       = "apply"
	PurposePlatform    = "platform"
	PurposeReview      = "review"
	PurposeDeploy      = "deploy"
	PurposeEnvironment = "environment"
	PurposeBackup      = "backup"
)

// Management is the account the organisation belongs to.
const Management = "management"

// BundleAccount is the account of the key that signs bundles.
const BundleAccount = "shared"

// Compile makes the snapshot of a source. It asks nobody: what is only known
// of the live organisation comes in as known, and what is unknown stays empty.
func Compile(src *Source, known Known) (*Snapshot, error) {
	l := src.Landscape
	s := &Snapshot{APIVersion: "slipway/v1", Kind: "LandscapeSnapshot", Name: l.Name, Region: l.AWS.Region,
		GitLab: GitLab{URL: l.GitLab.URL, Audience: l.GitLab.Audience,
			Platform: Project(l.GitLab.PlatformProject), Environments: Project(l.GitLab.EnvironmentsProject)},
		Accounts: map[string]Account{}, Clusters: map[string]Cluster{}, Environments: map[string]Environment{}, Services: map[string]Service{},
		BundleKey: known.BundleKey}
	if l.Domain != nil {
		s.Domain = l.Domain.Pattern
	}
	for name, a := range l.Accounts {
		id := first(a.ID, known.Accounts[name])
		account := Account{ID: id, Email: l.EmailOf(name), Guard: a.Guard}
		if name == Management {
			account.Email = a.Email
		} else if id != "" {
			account.Backend = &Backend{Bucket: StateBucket(l.Name, id, l.AWS.Region), Region: l.AWS.Region, KMSKey: known.StateKeys[name], Lock: l.State.Lock}
		}
		s.Accounts[name] = account
	}
	for name, k := range l.Clusters {
		n := l.Networks[k.Network]
		s.Clusters[name] = Cluster{Account: n.Account, Region: n.Region, EKSName: l.Name + "-" + name}
	}
	for name, e := range l.Environments {
		stop := ""
		if e.StopAfter != nil {
			stop = time.Duration(*e.StopAfter).String()
		}
		s.Environments[name] = Environment{Clusters: slices.Clone(e.clustersOf()), Tier: e.Tier, Namespace: e.Namespace,
			Gated: e.Gated, BackupBefore: e.BackupBefore, StopAfter: stop}
	}
	for _, svc := range src.Services {
		s.Services[svc.Name] = Service{Team: svc.Team, Project: Project(svc.Project), Environments: slices.Clone(svc.Environments)}
	}
	s.Roles = roles(s)
	return s, src.checkRoles(s)
}

// checkRoles finds roles that IAM would refuse or that would be one for two
// purposes.
func (src *Source) checkRoles(s *Snapshot) error {
	var p yamlfile.Problems
	seen := map[string]bool{}
	for _, r := range s.Roles {
		if len(r.Name) > 64 {
			p = append(p, src.file.Problem("environments."+r.Environment, fmt.Sprintf("the role %q has %d characters", r.Name, len(r.Name)), "64 are the most; shorten the service or the environment"))
		}
		if key := r.Account + "/" + r.Name; seen[key] {
			p = append(p, src.file.Problem("environments."+r.Environment, fmt.Sprintf("two things would have the role %q in account %q", r.Name, r.Account), "rename the service or the environment"))
		} else {
			seen[key] = true
		}
	}
	return p.Err()
}

// StateBucket names the bucket of an account's state backend. The suffix puts
// it into the account's own namespace, where nobody else can take the name.
func StateBucket(landscape, accountID, region string) string {
	return fmt.Sprintf("%s-tfstate-%s-%s-an", landscape, accountID, region)
}

// AuditBucket names the bucket of the audit trail.
func AuditBucket(landscape, accountID, region string) string {
	return fmt.Sprintf("%s-audit-%s-%s-an", landscape, accountID, region)
}

// RoleARN returns the ARN of a role, "" where the account's id is unknown.
func RoleARN(accountID, name string) string {
	if accountID == "" {
		return ""
	}
	return "arn:aws:iam::" + accountID + ":role/" + name
}

// protectedTrunk is the subject of a project's jobs on its protected default branch.
func protectedTrunk(p Project) string {
	return fmt.Sprintf("project_id:%d:ref_protected:true:ref_type:branch:ref:%s", p.ID, p.Trunk())
}

// unprotected is the subject of a project's jobs on any branch that is not protected.
func unprotected(p Project) string {
	return fmt.Sprintf("project_id:%d:ref_protected:false:ref_type:branch:ref:*", p.ID)
}

// roles derives every role that a job may assume: one for each service and
// purpose, since a role for all would let a service own a cluster.
func roles(s *Snapshot) []Role {
	var out []Role
	add := func(account, name, purpose, service, environment, subject string, clusters []string) {
		out = append(out, Role{Name: name, Account: account, ARN: RoleARN(s.Accounts[account].ID, name), Purpose: purpose,
			Service: service, Environment: environment, Clusters: clusters, Subjects: []string{subject}})
	}
	platform, environments := protectedTrunk(s.GitLab.Platform), protectedTrunk(s.GitLab.Environments)
	add(Management, "bootstrap", PurposeBootstrap, "", "", platform, nil)
	for _, account := range keys(s.Accounts) {
		if account != Management {
			add(account, "platform-plan", PurposePlan, "", "", platform, nil)
			add(account, "platform-apply", PurposeApply, "", "", platform, nil)
		}
	}
	eachAccount(s, keys(s.Clusters), func(account string, clusters []string) {
		add(account, "platform-deploy", PurposePlatform, "", "", platform, clusters)
	})
	for _, name := range keys(s.Environments) {
		env := s.Environments[name]
		eachAccount(s, env.Clusters, func(account string, clusters []string) {
			review := strings.Contains(env.Namespace, "{mr}")
			if env.Gated {
				add(account, "environments-"+name, PurposeEnvironment, "", name, environments, clusters)
			}
			if !review {
				add(account, "backup-"+name, PurposeBackup, "", name, environments, clusters)
			}
			for _, service := range keys(s.Services) {
				svc := s.Services[service]
				switch {
				case env.Gated || !slices.Contains(svc.Environments, name):
				case review:
					add(account, service+"-"+name, PurposeReview, service, name, unprotected(svc.Project), clusters)
				default:
					add(account, service+"-"+name, PurposeDeploy, service, name, protectedTrunk(svc.Project), clusters)
				}
			}
		})
	}
	return out
}

// eachAccount calls fn for each account that holds some of the clusters, in
// the order of the clusters.
func eachAccount(s *Snapshot, clusters []string, fn func(account string, clusters []string)) {
	var order []string
	of := map[string][]string{}
	for _, k := range clusters {
		account := s.Clusters[k].Account
		if _, ok := of[account]; !ok {
			order = append(order, account)
		}
		of[account] = append(of[account], k)
	}
	for _, account := range order {
		fn(account, of[account])
	}
}
