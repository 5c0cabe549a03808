package awsfront

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// check refuses what IAM refuses when a policy is written, and what this
// evaluator cannot judge: nothing is stored that would be passed over later.
func (d *document) check(ofResource bool) error {
	if d.Version != "2012-10-17" && d.Version != "2008-10-17" && d.Version != "" {
		return fmt.Errorf("the version %q is none of IAM's", d.Version)
	}
	for _, s := range d.Statement {
		if err := s.check(ofResource); err != nil {
			return err
		}
	}
	return nil
}

func (s *statement) check(ofResource bool) error {
	named := s.Principal != nil || s.NotPrincipal != nil
	switch {
	case s.Effect != "Allow" && s.Effect != "Deny":
		return fmt.Errorf("Invalid effect: %s", s.Effect) //nolint:staticcheck // IAM's own words
	case ofResource && !named:
		return errors.New("Missing required field Principal") //nolint:staticcheck // IAM's own words
	case !ofResource && named:
		return errors.New("Policy document should not specify a principal.") //nolint:staticcheck // IAM's own words
	case !ofResource && s.Action == nil && s.NotAction == nil:
		return errors.New("Policy statement must contain actions.") //nolint:staticcheck // IAM's own words
	case !ofResource && s.Resource == nil && s.NotResource == nil:
		return errors.New("Policy statement must contain resources.") //nolint:staticcheck // IAM's own words
	}
	values := append(append([]string{}, s.Resource...), s.NotResource...)
	for text, keys := range s.Condition {
		if _, known := readOperator(text); !known {
			return fmt.Errorf("Invalid Condition type : %s", text) //nolint:staticcheck // IAM's own words
		}
		for _, v := range keys {
			values = append(values, slices.DeleteFunc(slices.Clone(v), func(s string) bool { return s == ownersOrganization })...)
		}
	}
	for _, v := range values {
		if strings.Contains(v, "${") {
			return fmt.Errorf("the sandbox evaluates no policy variables but %s: %s", ownersOrganization, v)
		}
	}
	return nil
}

// readPolicy parses and checks a policy that a call wants to store.
func readPolicy(text string, ofResource bool) (*document, error) {
	d, err := parsePolicy(text)
	if err != nil {
		return nil, err
	}
	return d, d.check(ofResource)
}

// errPrincipal is IAM's answer to a policy that names nobody it can see.
func errPrincipal(arn string) error {
	return fmt.Errorf("Invalid principal in policy: \"AWS\":%q", arn) //nolint:staticcheck // IAM's own words
}

// checkPrincipals refuses a resource policy that names a role or a user that
// does not exist, or that IAM cannot see yet.
func (f *Front) checkPrincipals(ctx context.Context, d *document) error {
	for _, s := range d.Statement {
		for _, v := range s.Principal["AWS"] {
			if err := f.checkPrincipal(ctx, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *Front) checkPrincipal(ctx context.Context, v string) error {
	parts := strings.SplitN(v, ":", 6)
	if len(parts) != 6 || parts[2] != "iam" {
		return nil // a star, an account's number, a session
	}
	account, rest := parts[4], parts[5]
	switch {
	case rest == "root":
		return nil
	case strings.HasPrefix(rest, "role/"):
		_, err := f.lookUpRole(ctx, v)
		if errors.Is(err, errNoRole) {
			return errPrincipal(v)
		}
		return err
	case strings.HasPrefix(rest, "user/"):
		_, err := f.moto.iam(account).GetUser(ctx, &iam.GetUserInput{UserName: aws.String(rest[strings.LastIndexByte(rest, '/')+1:])})
		if hasCode(err, "NoSuchEntity") {
			return errPrincipal(v)
		}
		return err
	}
	return errPrincipal(v)
}

// gitlabCom is the issuer that all of GitLab.com's groups share.
const gitlabCom = "gitlab.com"

// checkSharedIssuer refuses, as IAM does, a trust in GitLab.com that does not
// say whose projects it means.
func checkSharedIssuer(d *document) error {
	for _, s := range d.Statement {
		for _, provider := range s.Principal["Federated"] {
			if s.Effect != "Allow" || !strings.HasSuffix(provider, ":oidc-provider/"+gitlabCom) {
				continue
			}
			asked := false
			for _, keys := range s.Condition {
				for key := range keys {
					asked = asked || strings.EqualFold(key, gitlabCom+":sub")
				}
			}
			if !asked {
				return fmt.Errorf("the trust policy of a shared OIDC provider must evaluate %s:sub", gitlabCom)
			}
		}
	}
	return nil
}

// checkWrite looks at the policies that a call wants to store.
func (f *Front) checkWrite(c *call) *apiError {
	ctx := c.r.Context()
	name := c.service + ":" + c.action
	switch name {
	case "iam:CreateRole", "iam:UpdateAssumeRolePolicy":
		d, err := readPolicy(c.form.Get("AssumeRolePolicyDocument")+c.form.Get("PolicyDocument"), true)
		if err == nil {
			err = errors.Join(f.checkPrincipals(ctx, d), checkSharedIssuer(d))
		}
		return malformed(err, "MalformedPolicyDocument")
	case "iam:PutRolePolicy", "iam:PutUserPolicy", "iam:CreatePolicy", "iam:CreatePolicyVersion":
		_, err := readPolicy(c.form.Get("PolicyDocument"), false)
		return malformed(err, "MalformedPolicyDocument")
	case "organizations:CreatePolicy", "organizations:UpdatePolicy":
		if c.param("Type") != "SERVICE_CONTROL_POLICY" && c.param("Type") != "" || c.param("Content") == "" {
			return nil
		}
		_, err := readPolicy(c.param("Content"), false)
		return malformed(err, "MalformedPolicyDocumentException")
	case "kms:CreateKey", "kms:PutKeyPolicy":
		return f.checkKeyPolicy(c)
	}
	return nil
}

func malformed(err error, code string) *apiError {
	if err == nil {
		return nil
	}
	return refuse(400, code, "%v", err)
}

// checkKeyPolicy refuses, as KMS does, a policy under which the caller could
// not change it again.
func (f *Front) checkKeyPolicy(c *call) *apiError {
	const code = "MalformedPolicyDocumentException"
	text := c.param("Policy")
	if text == "" {
		return nil // CreateKey's default: the account decides
	}
	d, err := readPolicy(text, true)
	if err == nil {
		err = f.checkPrincipals(c.r.Context(), d)
	}
	if err != nil {
		return malformed(err, code)
	}
	keys, err := f.callerKeys(c)
	if err != nil {
		return internal(err)
	}
	if d.decide(query{who: c.caller.principal(), action: "kms:PutKeyPolicy", resource: "*", context: keys}) != allowed {
		return refuse(400, code, "The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}
