package awsfront

import (
	"fmt"
	"strings"
)

// plainAsks asks for the call's right on each of its resources, and for the
// right to tag, where it tags what it makes.
func (f *Front) plainAsks(c *call, on func(*Front, *call) ([]string, *apiError)) ([]ask, *apiError) {
	if c.service == "kms" && c.param("KeyId")+c.param("TargetKeyId") != "" {
		return f.keyAsks(c)
	}
	arns, refused := on(f, c)
	if refused != nil {
		return nil, refused
	}
	context := requestKeys(c)
	var out []ask
	for _, arn := range arns {
		out = append(out, ask{action: permission(c.service, c.action), resource: arn, context: context})
	}
	if tag := tagRight(c); tag != "" {
		for _, arn := range arns {
			out = append(out, ask{action: tag, resource: arn, context: context})
		}
	}
	return out, nil
}

// tagRight is the right that tags given with a call need.
func tagRight(c *call) string {
	if len(c.tags()) == 0 {
		return ""
	}
	switch c.service + ":" + c.action {
	case "iam:CreateRole":
		return "iam:TagRole"
	case "iam:CreateUser":
		return "iam:TagUser"
	case "iam:CreatePolicy":
		return "iam:TagPolicy"
	case "iam:CreateOpenIDConnectProvider":
		return "iam:TagOpenIDConnectProvider"
	case "organizations:CreateAccount", "organizations:CreateOrganizationalUnit", "organizations:CreatePolicy":
		return "organizations:TagResource"
	case "kms:CreateKey":
		return "kms:TagResource"
	case "cloudtrail:CreateTrail":
		return "cloudtrail:AddTags"
	case "ssm:PutParameter":
		return "ssm:AddTagsToResource"
	case "secretsmanager:CreateSecret":
		return "secretsmanager:TagResource"
	case "eks:CreateAccessEntry", "eks:CreateCluster":
		return "eks:TagResource"
	}
	return ""
}

// requestKeys are the condition keys that the call's own parameters give.
func requestKeys(c *call) map[string][]string {
	keys := map[string][]string{}
	add := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	for k, v := range c.tags() {
		add("aws:requesttag/"+strings.ToLower(k), v)
		keys["aws:tagkeys"] = append(keys["aws:tagkeys"], k)
	}
	switch c.service {
	case "organizations":
		add("organizations:serviceprincipal", c.param("ServicePrincipal"))
		add("organizations:policytype", c.param("PolicyType")+c.param("Filter"))
	case "iam":
		add("iam:awsservicename", c.param("AWSServiceName"))
		add("iam:permissionsboundary", c.param("PermissionsBoundary"))
		add("iam:policyarn", c.param("PolicyArn"))
	}
	return keys
}

func one(format string, args ...any) ([]string, *apiError) {
	return []string{fmt.Sprintf(format, args...)}, nil
}

func onAnything(*Front, *call) ([]string, *apiError) { return []string{"*"}, nil }

// onRole names the role with its path, where it exists.
func onRole(f *Front, c *call) ([]string, *apiError) {
	name := c.param("RoleName")
	if c.action != "CreateRole" {
		v, err := f.principalView(c.r.Context(), c.caller.Account, "role", name)
		if err != nil {
			return nil, internal(err)
		}
		if v.exists {
			return []string{v.arn}, nil
		}
	}
	return one("arn:aws:iam::%s:role%s%s", c.caller.Account, pathOf(c), name)
}

func pathOf(c *call) string {
	if path := c.param("Path"); path != "" {
		return path
	}
	return "/"
}

func onLinkedRole(_ *Front, c *call) ([]string, *apiError) {
	service := c.param("AWSServiceName")
	return one("arn:aws:iam::%s:role/aws-service-role/%s/%s", c.caller.Account, service, linkedRole(service))
}

// linkedRole names the role of a service of AWS's.
func linkedRole(service string) string {
	if service == cloudTrail {
		return "AWSServiceRoleForCloudTrail"
	}
	return "AWSServiceRoleFor" + strings.TrimSuffix(service, ".amazonaws.com")
}

func onUser(_ *Front, c *call) ([]string, *apiError) {
	name := c.param("UserName")
	if name == "" && c.caller.Role == "" {
		return []string{c.caller.ARN}, nil // without a name, IAM takes the caller
	}
	return one("arn:aws:iam::%s:user%s%s", c.caller.Account, pathOf(c), name)
}

func onPolicy(_ *Front, c *call) ([]string, *apiError) {
	if arn := c.param("PolicyArn"); arn != "" {
		return []string{arn}, nil
	}
	return one("arn:aws:iam::%s:policy%s%s", c.caller.Account, pathOf(c), c.param("PolicyName"))
}

func onProvider(_ *Front, c *call) ([]string, *apiError) {
	if arn := c.param("OpenIDConnectProviderArn"); arn != "" {
		return []string{arn}, nil
	}
	return one("arn:aws:iam::%s:oidc-provider/%s", c.caller.Account, strings.TrimPrefix(c.param("Url"), "https://"))
}

// onUnits names each account, unit, root and policy that a call of
// Organizations names.
func onUnits(f *Front, c *call) ([]string, *apiError) {
	m, err := f.membershipOf(c.r.Context(), c.caller.Account)
	if err != nil {
		return nil, internal(err)
	}
	var out []string
	for _, name := range []string{"AccountId", "ChildId", "ParentId", "SourceParentId", "DestinationParentId", "OrganizationalUnitId", "RootId", "TargetId", "ResourceId", "PolicyId"} {
		id := c.param(name)
		kind := ""
		switch {
		case id == "":
			continue
		case strings.HasPrefix(id, "ou-"):
			kind = "ou"
		case strings.HasPrefix(id, "r-"):
			kind = "root"
		case strings.HasPrefix(id, "p-"):
			kind = "policy"
			id = "service_control_policy/" + id
		default:
			kind = "account"
		}
		out = append(out, fmt.Sprintf("arn:aws:organizations::%s:%s/%s/%s", m.master, kind, m.organization, id))
	}
	if len(out) == 0 {
		return []string{"*"}, nil
	}
	return out, nil
}

func onCluster(_ *Front, c *call) ([]string, *apiError) {
	name := c.param("name")
	if path := eksPath(c.r); len(path) > 1 {
		name = path[1]
	}
	return one("arn:aws:eks:%s:%s:cluster/%s", c.region, c.caller.Account, name)
}

func onEntry(f *Front, c *call) ([]string, *apiError) {
	path := eksPath(c.r)
	var arn string
	f.store.read(func(d *data) {
		if e := d.Entries[path[1]][path[3]]; e != nil {
			arn = e.AccessEntryARN
		}
	})
	if arn != "" {
		return []string{arn}, nil
	}
	account, name, _ := roleARN(path[3])
	return one("arn:aws:eks:%s:%s:access-entry/%s/role/%s/%s/*", c.region, c.caller.Account, path[1], account, name)
}

func onTrail(_ *Front, c *call) ([]string, *apiError) {
	name := c.param("Name") + c.param("TrailName") + c.param("ResourceId")
	if list := c.list("ResourceIdList"); len(list) > 0 {
		return list, nil
	}
	if strings.HasPrefix(name, "arn:") {
		return []string{name}, nil
	}
	return one("arn:aws:cloudtrail:%s:%s:trail/%s", c.region, c.caller.Account, name)
}

func onParameter(_ *Front, c *call) ([]string, *apiError) {
	names := append(c.list("Names"), c.param("Name")+c.param("Path")+c.param("ResourceId"))
	var out []string
	for _, n := range names {
		if n == "" {
			continue
		}
		out = append(out, "arn:aws:ssm:"+c.region+":"+c.caller.Account+":parameter/"+strings.TrimPrefix(n, "/"))
	}
	return out, nil
}

// onSecret names a secret as AWS judges it: with the six characters that it puts
// behind every name, so that a policy which names it without them matches nothing.
func onSecret(_ *Front, c *call) ([]string, *apiError) {
	id := c.param("SecretId") + c.param("Name")
	if strings.HasPrefix(id, "arn:") {
		return []string{id}, nil
	}
	return one("arn:aws:secretsmanager:%s:%s:secret:%s-SlipWy", c.region, c.caller.Account, id)
}

// createTrailAsks asks beside the trail's own rights for those that CloudTrail
// uses in the caller's name when the trail is an organization's.
func (f *Front) createTrailAsks(c *call) ([]ask, *apiError) {
	out, refused := f.plainAsks(c, onTrail)
	if refused != nil || c.param("IsOrganizationTrail") != "true" {
		return out, refused
	}
	lacking := refuse(400, "InsufficientDependencyServiceAccessPermissionException",
		"The IAM principal lacks a permission in AWS Organizations or IAM that an organization trail needs.")
	linked := "arn:aws:iam::" + c.caller.Account + ":role/aws-service-role/" + cloudTrail + "/" + linkedRole(cloudTrail)
	return append(out,
		ask{action: "iam:CreateServiceLinkedRole", resource: linked, context: map[string][]string{"iam:awsservicename": {cloudTrail}}, denial: lacking},
		ask{action: "organizations:DescribeOrganization", resource: "*", denial: lacking},
		ask{action: "organizations:ListAWSServiceAccessForOrganization", resource: "*", denial: lacking}), nil
}
