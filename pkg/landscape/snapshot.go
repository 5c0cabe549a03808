package landscape

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Snapshot is the compiled landscape: what people wrote, with copies resolved
// and defaults filled in, and what bootstrap made of it (account ids, roles,
// backends, keys). Every program but bootstrap reads only this, by digest.
type Snapshot struct {
	APIVersion   string                 `json:"apiVersion"` // slipway/v1
	Kind         string                 `json:"kind"`       // LandscapeSnapshot
	Name         string                 `json:"name"`
	Region       string                 `json:"region"`
	GitLab       GitLab                 `json:"gitlab"`
	Accounts     map[string]Account     `json:"accounts"`
	Clusters     map[string]Cluster     `json:"clusters"`
	Environments map[string]Environment `json:"environments"`
	Services     map[string]Service     `json:"services"`
	Roles        []Role                 `json:"roles"`
	BundleKey    string                 `json:"bundleKey,omitempty"` // ARN of the KMS key that signs release bundles
	Domain       string                 `json:"domain,omitempty"`    // pattern of the services' host names, with {service} and {environment}
}

// GitLab is the instance and the projects with a part of their own.
type GitLab struct {
	URL          string  `json:"url"`      // the issuer of ID tokens
	Audience     string  `json:"audience"` // aud of the ID tokens AWS accepts
	Platform     Project `json:"platformProject"`
	Environments Project `json:"environmentsProject"`
}

// Project names a GitLab project; the id outlives a rename.
type Project struct {
	Path   string `json:"path"`
	ID     int64  `json:"id"`
	Branch string `json:"branch,omitempty"` // "" is main
}

// Trunk returns the project's protected default branch.
func (p Project) Trunk() string { return first(p.Branch, "main") }

// Account is an AWS account of the organisation.
type Account struct {
	ID      string   `json:"id,omitempty"`
	Email   string   `json:"email,omitempty"`
	Guard   string   `json:"guard,omitempty"` // strict: production rules
	Backend *Backend `json:"backend,omitempty"`
}

// Backend is an account's Terraform state backend.
type Backend struct {
	Bucket    string `json:"bucket"`
	Region    string `json:"region"`
	KMSKey    string `json:"kmsKey"` // ARN
	Lock      string `json:"lock"`   // s3 | dynamodb | both
	LockTable string `json:"lockTable,omitempty"`
}

// Cluster is a Kubernetes cluster.
type Cluster struct {
	Account string `json:"account"` // key of Accounts
	Region  string `json:"region"`
	EKSName string `json:"eksName"` // nsflow-nonprod
}

// Environment is a place services are deployed to.
type Environment struct {
	Clusters     []string `json:"clusters"`
	Tier         string   `json:"tier"`
	Namespace    string   `json:"namespace"` // with {service} and {mr}
	Gated        bool     `json:"gated,omitempty"`
	BackupBefore bool     `json:"backupBefore,omitempty"`
	StopAfter    string   `json:"stopAfter,omitempty"`
}

// Service is a microservice of the landscape.
type Service struct {
	Team         string   `json:"team"`
	Project      Project  `json:"project"`
	Environments []string `json:"environments"`
}

// Role is an IAM role that a GitLab job may assume.
type Role struct {
	Name        string   `json:"name"`
	Account     string   `json:"account"` // key of Accounts
	ARN         string   `json:"arn,omitempty"`
	Purpose     string   `json:"purpose"` // bootstrap | plan | apply | platform | review | deploy | environment | backup
	Service     string   `json:"service,omitempty"`
	Environment string   `json:"environment,omitempty"`
	Clusters    []string `json:"clusters,omitempty"` // where the role has an EKS access entry
	Subjects    []string `json:"subjects"`           // `sub` values of ID tokens it trusts; a star is a wildcard
}

// Digest returns the snapshot's digest: "sha256:" and the hash of its canonical
// form, which is encoding/json's (struct order, sorted map keys).
func (s *Snapshot) Digest() (string, error) {
	raw, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("encoding the snapshot: %w", err)
	}
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

// ReadSnapshot decodes a snapshot and checks that it is one.
func ReadSnapshot(raw []byte) (*Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, fmt.Errorf("reading the landscape snapshot: %w", err)
	}
	if s.APIVersion != "slipway/v1" || s.Kind != "LandscapeSnapshot" {
		return nil, fmt.Errorf("reading the landscape snapshot: it is a %q of %q", s.Kind, s.APIVersion)
	}
	return &s, nil
}

// RoleFor returns the role of a purpose: for a service ("" for none) in an
// environment ("" for none).
func (s *Snapshot) RoleFor(purpose, service, environment string) (Role, error) {
	for _, r := range s.Roles {
		if r.Purpose == purpose && r.Service == service && r.Environment == environment {
			return r, nil
		}
	}
	return Role{}, fmt.Errorf("finding the %s role of service %q in environment %q: the landscape has none", purpose, service, environment)
}

// RoleIn returns the role of a purpose that belongs to an account (plan, apply).
func (s *Snapshot) RoleIn(purpose, account string) (Role, error) {
	for _, r := range s.Roles {
		if r.Purpose == purpose && r.Account == account {
			return r, nil
		}
	}
	return Role{}, fmt.Errorf("finding the %s role in account %q: the landscape has none", purpose, account)
}

// Namespace returns the namespace of a service in an environment. mr is the
// iid of the merge request, used where the pattern has {mr}.
func (s *Snapshot) Namespace(environment, service, mr string) (string, error) {
	e, ok := s.Environments[environment]
	if !ok {
		return "", fmt.Errorf("finding environment %q: the landscape has %s", environment, strings.Join(keys(s.Environments), ", "))
	}
	ns := strings.NewReplacer("{service}", service, "{mr}", mr).Replace(e.Namespace)
	if strings.ContainsAny(ns, "{}") || strings.HasSuffix(ns, "-") {
		return "", fmt.Errorf("naming the namespace of %q in %q: pattern %q gives %q", service, environment, e.Namespace, ns)
	}
	return ns, nil
}

// GitLabEnvironment returns the name that a service's deployments to an
// environment have in its GitLab project: the environment's own, and in a
// monorepo one for each service, since what one service deployed says nothing
// of the others. The templates make the same name of their input prefix.
func (s *Snapshot) GitLabEnvironment(service, environment string) string {
	if len(s.ServicesOf(s.Services[service].Project.ID)) > 1 {
		return service + "-" + environment
	}
	return environment
}

// Host returns the host name of a service in an environment, "" where the
// landscape has no domain. Where each merge request has its own namespace, it
// has a name of its own too: orders-mr-12.review.example.com.
func (s *Snapshot) Host(environment, service, mr string) string {
	if strings.Contains(s.Environments[environment].Namespace, "{mr}") {
		service += "-mr-" + mr
	}
	return strings.NewReplacer("{service}", service, "{environment}", environment).Replace(s.Domain)
}

// ServicesOf returns the names of the services that a GitLab project holds, in
// order: none for a project that is no service's, several for a monorepo.
func (s *Snapshot) ServicesOf(projectID int64) []string {
	var names []string
	for _, name := range keys(s.Services) {
		if s.Services[name].Project.ID == projectID {
			names = append(names, name)
		}
	}
	return names
}
