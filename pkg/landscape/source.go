package landscape

import "gitlab.com/slipway/slipway/pkg/yamlfile"

// Landscape is landscape.yaml: accounts, networks, clusters, environments and
// teams of one platform.
type Landscape struct {
	// APIVersion is slipway/v1.
	APIVersion string `json:"apiVersion" required:"true"`
	// Kind is Landscape.
	Kind string `json:"kind" required:"true"`
	// Name starts the names of everything made for this landscape.
	Name string `json:"name" required:"true"`
	// AWS says where the organisation lives and how its accounts are made.
	AWS AWSSource `json:"aws" required:"true"`
	// GitLab is the instance whose ID tokens are trusted.
	GitLab GitLabSource `json:"gitlab" required:"true"`
	// Registry says which account holds images, and where they are replicated to.
	Registry *RegistrySource `json:"registry,omitempty"`
	// Domain is the DNS zone and the pattern of the services' names in it.
	Domain *DomainSource `json:"domain,omitempty"`
	// Accounts are the AWS accounts by their short name; management must be one of them.
	Accounts map[string]AccountSource `json:"accounts" required:"true"`
	// Audit is the organisation's audit trail.
	Audit AuditSource `json:"audit" required:"true"`
	// State says how Terraform's state is locked.
	State *StateSource `json:"state,omitempty"`
	// Trust says how jobs get into the accounts.
	Trust *TrustSource `json:"trust,omitempty"`
	// Networks are the VPCs by name.
	Networks map[string]NetworkSource `json:"networks,omitempty"`
	// Clusters are the Kubernetes clusters by name.
	Clusters map[string]ClusterSource `json:"clusters,omitempty"`
	// Environments are the places services are deployed to, by name.
	Environments map[string]EnvironmentSource `json:"environments,omitempty"`
	// Teams own services.
	Teams map[string]TeamSource `json:"teams,omitempty"`
}

// AWSSource is the organisation: its home region, and how accounts are made.
type AWSSource struct {
	// Region is the home region of everything that is not said to be elsewhere.
	Region string `json:"region" required:"true"`
	// Organization is adopt (there must be one) or create (made where there is none).
	Organization string `json:"organization" required:"true" enum:"adopt|create"`
	// EmailPattern gives an account its e-mail address; {account} is its short name.
	EmailPattern string `json:"emailPattern,omitempty"`
	// Supernet holds the address ranges of all networks.
	Supernet string `json:"supernet,omitempty"`
	// Office is the address ranges that the VPNs admit.
	Office []string `json:"office,omitempty"`
}

// GitLabSource is the instance whose ID tokens are trusted, and the projects
// with a part of their own.
type GitLabSource struct {
	// URL is the public address of the instance, the issuer of its ID tokens.
	URL string `json:"url" required:"true"`
	// Audience is the aud of the ID tokens that AWS accepts.
	Audience string `json:"audience" required:"true"`
	// PlatformProject holds this landscape.
	PlatformProject ProjectSource `json:"platformProject" required:"true"`
	// EnvironmentsProject holds the state of the gated environments.
	EnvironmentsProject ProjectSource `json:"environmentsProject" required:"true"`
}

// ProjectSource names a GitLab project. Trust is bound to the id, which
// outlives a rename; the path is for people.
type ProjectSource struct {
	// Path is the full path of the project, such as nsflow/orders.
	Path string `json:"path" required:"true"`
	// ID is the number that GitLab shows on the project's page.
	ID int64 `json:"id" required:"true"`
	// Branch is the protected default branch, whose jobs are trusted; main where it is not set.
	Branch string `json:"branch,omitempty"`
}

// RegistrySource says where images are kept.
type RegistrySource struct {
	// Account is the account that holds the registry.
	Account string `json:"account" required:"true"`
	// Replicas are further regions that images are replicated to.
	Replicas []string `json:"replicas,omitempty"`
}

// DomainSource is the DNS zone of the landscape.
type DomainSource struct {
	// Zone is the DNS zone, such as example.com.
	Zone string `json:"zone" required:"true"`
	// Pattern names a service in an environment; {service} and {environment} are replaced.
	Pattern string `json:"pattern" required:"true"`
}

// AccountSource is an AWS account, adopted where it exists and made where not.
type AccountSource struct {
	// ID is the account's number, for one that exists.
	ID string `json:"id,omitempty"`
	// Email is the account's address where emailPattern does not give it.
	Email string `json:"email,omitempty"`
	// OU is the organisational unit the account belongs in.
	OU string `json:"ou,omitempty"`
	// Guard is strict for accounts whose changes need more care.
	Guard string `json:"guard,omitempty" enum:"strict|standard"`
}

// AuditSource is the audit trail of the organisation.
type AuditSource struct {
	// Trail is the name of the organisation's CloudTrail trail.
	Trail string `json:"trail" required:"true"`
	// Account owns the bucket and the key of the trail.
	Account string `json:"account" required:"true"`
}

// StateSource says how Terraform's state is locked.
type StateSource struct {
	// Lock is s3 (a lock file beside the state), dynamodb (a table) or both.
	Lock string `json:"lock" required:"true" enum:"s3|dynamodb|both"`
}

// TrustSource says how jobs get into the accounts.
type TrustSource struct {
	// Shape is direct (an OIDC provider in every account) or chained (through an automation account).
	Shape string `json:"shape" required:"true" enum:"direct|chained"`
}

// NetworkSource is a VPC. A copy takes every field that it does not set itself.
type NetworkSource struct {
	// CopyOf is the network this one is like.
	CopyOf string `json:"copyOf,omitempty"`
	// Account is the account the network lies in.
	Account string `json:"account,omitempty"`
	// Region is the network's region, where it is not aws.region.
	Region string `json:"region,omitempty"`
	// CIDR is the address range, which no two networks share.
	CIDR string `json:"cidr" required:"true"`
	// NAT is single (one gateway) or perZone.
	NAT string `json:"nat,omitempty" enum:"single|perZone"`
	// VPN is office where the office's ranges may reach the network.
	VPN string `json:"vpn,omitempty" enum:"office"`
}

// ClusterSource is a Kubernetes cluster. A copy takes every field that it does not set itself.
type ClusterSource struct {
	// CopyOf is the cluster this one is like.
	CopyOf string `json:"copyOf,omitempty"`
	// Network is the network the cluster lies in; account and region follow from it.
	Network string `json:"network,omitempty"`
	// Nodes bounds the number of nodes.
	Nodes *NodesSource `json:"nodes,omitempty"`
	// OffHours is when nobody needs the cluster.
	OffHours *OffHoursSource `json:"offHours,omitempty"`
	// RunnerTag is the tag of the GitLab runners that reach the cluster.
	RunnerTag string `json:"runnerTag,omitempty"`
}

// NodesSource bounds the number of nodes of a cluster.
type NodesSource struct {
	// Min is the least number of nodes.
	Min int `json:"min" required:"true"`
	// Max is the greatest number of nodes.
	Max int `json:"max" required:"true"`
}

// OffHoursSource is when nobody needs a cluster.
type OffHoursSource struct {
	// From is when the cluster is scaled down, such as Mon-Fri 20:00.
	From string `json:"from" required:"true"`
	// To is when it is back, such as Mon-Fri 06:00.
	To string `json:"to" required:"true"`
	// Weekends says that it stays down over Saturday and Sunday.
	Weekends bool `json:"weekends,omitempty"`
	// Zone is the time zone of both, such as Europe/Warsaw.
	Zone string `json:"zone" required:"true"`
}

// EnvironmentSource is a place services are deployed to.
type EnvironmentSource struct {
	// Cluster is the environment's cluster.
	Cluster string `json:"cluster,omitempty"`
	// Clusters are the environment's clusters, where it has several.
	Clusters []string `json:"clusters,omitempty"`
	// Tier is GitLab's deployment tier.
	Tier string `json:"tier" required:"true" enum:"development|testing|staging|production|other"`
	// Namespace is the pattern of the namespaces: {service}, and {mr} where each merge request gets its own.
	Namespace string `json:"namespace" required:"true"`
	// StopAfter is how long a review environment stays after its last deployment.
	StopAfter *yamlfile.Duration `json:"stopAfter,omitempty"`
	// Gated says that only promotions get in.
	Gated bool `json:"gated,omitempty"`
	// BackupBefore wants a backup before each change.
	BackupBefore bool `json:"backupBefore,omitempty"`
}

// TeamSource is a team that owns services.
type TeamSource struct {
	// Group is the team's GitLab group.
	Group string `json:"group" required:"true"`
	// Bus is the message broker of the team's services.
	Bus string `json:"bus,omitempty" enum:"rabbitmq"`
}

// LandscapeService is a file of landscape/services: one microservice.
type LandscapeService struct {
	// APIVersion is slipway/v1.
	APIVersion string `json:"apiVersion" required:"true"`
	// Kind is LandscapeService.
	Kind string `json:"kind" required:"true"`
	// Name is the service's name, which is also that of its file.
	Name string `json:"name" required:"true"`
	// Team is the team that owns the service.
	Team string `json:"team" required:"true"`
	// Project is the service's GitLab project.
	Project ProjectSource `json:"project" required:"true"`
	// Environments are those the service is deployed to.
	Environments []string `json:"environments" required:"true"`
	// Stores are the data stores of the service.
	Stores *StoresSource `json:"stores,omitempty"`
	// Secrets are the secrets the service reads at run time.
	Secrets []SecretSource `json:"secrets,omitempty"`
}

// StoresSource are the data stores of a service.
type StoresSource struct {
	// Postgres is a PostgreSQL database.
	Postgres *PostgresSource `json:"postgres,omitempty"`
}

// PostgresSource is a PostgreSQL database.
type PostgresSource struct {
	// Size is the size of its volume, such as 20Gi.
	Size string `json:"size" required:"true"`
}

// SecretSource is a secret a service reads at run time.
type SecretSource struct {
	// Name is the secret's name, such as orders/db.
	Name string `json:"name" required:"true"`
	// Rotate is how often the secret is rotated.
	Rotate *yamlfile.Duration `json:"rotate,omitempty"`
}

// Source is what people wrote, read and found to hold together.
type Source struct {
	Landscape Landscape
	Services  []LandscapeService // by name

	file  *yamlfile.Doc
	files []*yamlfile.Doc // of Services, in their order
}
