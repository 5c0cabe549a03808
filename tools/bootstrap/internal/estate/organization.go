package estate

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"gitlab.com/slipway/slipway/pkg/landscape"
	"gitlab.com/slipway/slipway/pkg/tool"
	"gitlab.com/slipway/slipway/tools/bootstrap/internal/resource"
)

// organization is the organisation itself: adopted where there is one, made
// where there is none and the file says create.
type organization struct {
	c   *Cloud
	api *organizations.Client
}

// Account returns management, whose the organisation is.
func (organization) Account() string { return landscape.Management }

// Name returns the resource's name.
func (organization) Name() string { return "organization" }

// Observe looks for the organisation and its root.
func (r organization) Observe(ctx context.Context) (resource.Observation, error) {
	out, err := r.api.DescribeOrganization(ctx, &organizations.DescribeOrganizationInput{})
	if codeIs(err, "AWSOrganizationsNotInUseException") {
		if r.c.facts.Source.Landscape.AWS.Organization != "create" {
			return resource.Observation{}, tool.Exit(tool.Usage, errors.New("the management account has no organisation, and aws.organization is adopt"),
				"write organization: create to have one made")
		}
		return resource.Absent("all features"), nil
	}
	if err != nil {
		return resource.Observation{}, failed("DescribeOrganization", err)
	}
	org := out.Organization
	if master := aws.ToString(org.MasterAccountId); master != r.c.facts.Account(landscape.Management) {
		return resource.Observation{}, tool.Exitf(tool.Usage, "account %s belongs to the organisation of account %s, and is not its management account",
			r.c.facts.Account(landscape.Management), master)
	}
	if org.FeatureSet != types.OrganizationFeatureSetAll {
		return resource.Observation{}, tool.Exit(tool.Refused, fmt.Errorf("the organisation %s has the feature set %s", aws.ToString(org.Id), org.FeatureSet),
			"all features need every account's consent: switch them on in the console of AWS Organizations")
	}
	roots, err := r.api.ListRoots(ctx, &organizations.ListRootsInput{})
	if err != nil {
		return resource.Observation{}, failed("ListRoots", err)
	}
	if len(roots.Roots) != 1 {
		return resource.Observation{}, fmt.Errorf("ListRoots: the organisation has %d roots", len(roots.Roots))
	}
	r.c.facts.setOrganization(aws.ToString(org.Id))
	r.c.facts.setRoot(aws.ToString(roots.Roots[0].Id))
	return resource.Observation{}, nil
}

// Apply makes the organisation.
func (r organization) Apply(ctx context.Context) error {
	_, err := r.api.CreateOrganization(ctx, &organizations.CreateOrganizationInput{FeatureSet: types.OrganizationFeatureSetAll})
	return failed("CreateOrganization", err)
}

// serviceAccess lets a service of AWS's work across the organisation.
type serviceAccess struct {
	c         *Cloud
	api       *organizations.Client
	principal string
}

// Account returns management.
func (serviceAccess) Account() string { return landscape.Management }

// Name returns the resource's name.
func (r serviceAccess) Name() string { return "trusted service " + r.principal }

// Observe looks for the service among those that are trusted.
func (r serviceAccess) Observe(ctx context.Context) (resource.Observation, error) {
	if r.c.facts.Organization() == "" {
		return resource.Absent(), nil
	}
	pages := organizations.NewListAWSServiceAccessForOrganizationPaginator(r.api, &organizations.ListAWSServiceAccessForOrganizationInput{})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return resource.Observation{}, failed("ListAWSServiceAccessForOrganization", err)
		}
		for _, p := range page.EnabledServicePrincipals {
			if aws.ToString(p.ServicePrincipal) == r.principal {
				return resource.Observation{}, nil
			}
		}
	}
	return resource.Absent(), nil
}

// Apply trusts the service.
func (r serviceAccess) Apply(ctx context.Context) error {
	_, err := r.api.EnableAWSServiceAccess(ctx, &organizations.EnableAWSServiceAccessInput{ServicePrincipal: &r.principal})
	return failed("EnableAWSServiceAccess", err)
}

// unit is an organisational unit below the root.
type unit struct {
	c    *Cloud
	api  *organizations.Client
	name string
}

// Account returns management.
func (unit) Account() string { return landscape.Management }

// Name returns the resource's name.
func (r unit) Name() string { return "organizational unit " + r.name }

// Observe looks for the unit below the root.
func (r unit) Observe(ctx context.Context) (resource.Observation, error) {
	root := r.c.facts.rootID()
	if root == "" {
		return resource.Absent(), nil
	}
	pages := organizations.NewListOrganizationalUnitsForParentPaginator(r.api, &organizations.ListOrganizationalUnitsForParentInput{ParentId: &root})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return resource.Observation{}, failed("ListOrganizationalUnitsForParent", err)
		}
		for _, u := range page.OrganizationalUnits {
			if aws.ToString(u.Name) == r.name {
				put(r.c.facts, r.c.facts.units, r.name, aws.ToString(u.Id))
				return resource.Observation{}, nil
			}
		}
	}
	return resource.Absent(), nil
}

// Apply makes the unit.
func (r unit) Apply(ctx context.Context) error {
	_, err := r.api.CreateOrganizationalUnit(ctx, &organizations.CreateOrganizationalUnitInput{Name: &r.name, ParentId: aws.String(r.c.facts.rootID())})
	return failed("CreateOrganizationalUnit", err)
}
