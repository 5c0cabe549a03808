package awsfront

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/coreos/go-oidc/v3/oidc"
)

// role is what STS needs to know of a role.
type role struct {
	id         string
	trust      *document
	maxSession time.Duration
}

var errNoRole = errors.New("looking the role up: there is none")

// lookUpRole reads the role, whose whole ARN, path included, must be right.
func (f *Front) lookUpRole(ctx context.Context, arn string) (role, error) {
	account, name, ok := roleARN(arn)
	if !ok {
		return role{}, errNoRole
	}
	out, err := f.moto.iam(account).GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if hasCode(err, "NoSuchEntity") || err == nil && aws.ToString(out.Role.Arn) != arn {
		return role{}, errNoRole
	}
	if err != nil {
		return role{}, fmt.Errorf("looking the role %q up: %w", arn, err)
	}
	text, err := url.PathUnescape(aws.ToString(out.Role.AssumeRolePolicyDocument))
	if err != nil {
		return role{}, fmt.Errorf("decoding the trust policy of %q: %w", arn, err)
	}
	trust, err := parsePolicy(text)
	if err != nil {
		return role{}, fmt.Errorf("reading the trust policy of %q: %w", arn, err)
	}
	limit := time.Duration(aws.ToInt32(out.Role.MaxSessionDuration)) * time.Second
	if limit == 0 {
		limit = time.Hour
	}
	return role{id: aws.ToString(out.Role.RoleId), trust: trust, maxSession: limit}, nil
}

// trustedByCaller evaluates the role's trust policy for the signed caller. The
// caller's own (identity) policies, which AWS asks as well when the role is in
// another account or trusts the whole account, are not evaluated: every
// identity of a trusted account may assume.
func (f *Front) trustedByCaller(c *call, a *assumption) (role, *apiError) {
	refused := refuse(http.StatusForbidden, "AccessDenied", "User: %s is not authorized to perform: sts:AssumeRole on resource: %s", c.caller.ARN, a.arn)
	r, err := f.lookUpRole(c.r.Context(), a.arn)
	if errors.Is(err, errNoRole) {
		return r, refused
	}
	if err != nil {
		return r, internal(err)
	}
	actions := []string{"sts:AssumeRole"}
	switch {
	case c.caller.Source != "" && a.source != "" && a.source != c.caller.Source:
		return r, refuse(http.StatusForbidden, "AccessDenied", "User: %s is not authorized to change its source identity", c.caller.ARN)
	case c.caller.Source != "":
		a.source = c.caller.Source // sticky along the chain
	}
	if a.source != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	if c.form.Has("Tags.member.1.Key") || c.form.Has("TransitiveTagKeys.member.1") {
		actions = append(actions, "sts:TagSession")
	}
	keys, err := f.callerKeys(c)
	if err != nil {
		return r, internal(err)
	}
	keys["sts:rolesessionname"] = []string{a.session}
	add := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	add("sts:sourceidentity", a.source)
	add("aws:sourceidentity", c.caller.Source)
	add("sts:externalid", c.form.Get("ExternalId"))
	for _, action := range actions {
		if r.trust.decide(query{who: c.caller.principal(), action: action, context: keys}) != allowed {
			return r, refused
		}
	}
	return r, nil
}

// callerKeys are the condition keys that every call of an identity has, in the
// form query.context wants them. The loopback stands for TLS.
func (f *Front) callerKeys(c *call) (map[string][]string, error) {
	principalARN := c.caller.ARN
	if c.caller.Role != "" {
		principalARN = c.caller.Role
	}
	keys := map[string][]string{"aws:principalarn": {principalARN}, "aws:principalaccount": {c.caller.Account},
		"aws:principalisawsservice": {"false"}, "aws:securetransport": {"true"}, "s3:tlsversion": {"1.3"}}
	org, err := f.organizationOf(c.r.Context(), c.caller.Account)
	if err != nil {
		return nil, err
	}
	if org != "" {
		keys["aws:principalorgid"] = []string{org}
	}
	return keys, nil
}

// organizationOf returns the ID of the organization the account is in, or "".
func (f *Front) organizationOf(ctx context.Context, account string) (string, error) {
	out, err := f.moto.organizations(account).DescribeOrganization(ctx, &organizations.DescribeOrganizationInput{})
	if hasCode(err, "AWSOrganizationsNotInUseException") {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("asking for the organization of %s: %w", account, err)
	}
	return aws.ToString(out.Organization.Id), nil
}

// webToken is a verified ID token.
type webToken struct {
	provider, subject string
	audience          []string
}

// trustedByToken verifies the ID token and evaluates the role's trust policy
// for it.
func (f *Front) trustedByToken(c *call, a assumption) (role, webToken, *apiError) {
	refused := refuse(http.StatusForbidden, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	r, err := f.lookUpRole(c.r.Context(), a.arn)
	if errors.Is(err, errNoRole) {
		return r, webToken{}, refused
	}
	if err != nil {
		return r, webToken{}, internal(err)
	}
	token, bad := f.verifyToken(c.r.Context(), a.account, c.form.Get("WebIdentityToken"))
	if bad != nil {
		return r, token, bad
	}
	host := strings.ToLower(token.provider[strings.Index(token.provider, "/")+1:])
	// AWS evaluates two keys of a GitLab token; every other one is absent.
	keys := map[string][]string{
		host + ":aud":         token.audience,
		host + ":sub":         {token.subject},
		"sts:rolesessionname": {a.session},
		"aws:securetransport": {"true"},
	}
	if r.trust.decide(query{who: principal{federated: token.provider}, action: "sts:AssumeRoleWithWebIdentity", context: keys}) != allowed {
		return r, token, refused
	}
	return r, token, nil
}

// verifyToken checks the token against the OIDC provider of the account.
func (f *Front) verifyToken(ctx context.Context, account, raw string) (webToken, *apiError) {
	bad := func(format string, args ...any) *apiError {
		return refuse(http.StatusBadRequest, "InvalidIdentityToken", format, args...)
	}
	issuer, err := issuerOf(raw)
	if err != nil {
		return webToken{}, bad("The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	}
	arn := "arn:aws:iam::" + account + ":oidc-provider/" + strings.TrimPrefix(issuer, "https://")
	provider, err := f.moto.iam(account).GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &arn})
	if hasCode(err, "NoSuchEntity") {
		return webToken{}, bad("No OpenIDConnect provider found in your account for %s", issuer)
	}
	if err != nil {
		return webToken{}, internal(err)
	}
	verifier := f.issuers[issuer]
	if verifier == nil {
		return webToken{}, refuse(http.StatusBadRequest, "IDPCommunicationError", "Could not reach the identity provider %s: the sandbox does not run it", issuer)
	}
	verified, err := verifier.Verify(ctx, raw)
	var expired *oidc.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return webToken{}, refuse(http.StatusBadRequest, "ExpiredTokenException", "Token expired: current date/time %d must be before the expiration date/time %d", f.now().Unix(), expired.Expiry.Unix())
	case err != nil:
		return webToken{}, bad("The ID Token cannot be verified: %v", err)
	case !slices.ContainsFunc(verified.Audience, func(a string) bool { return slices.Contains(provider.ClientIDList, a) }):
		return webToken{}, bad("Incorrect token audience")
	}
	return webToken{provider: arn, subject: verified.Subject, audience: verified.Audience}, nil
}

// issuerOf reads who claims to have issued the token; nothing is verified yet.
func issuerOf(raw string) (string, error) {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return "", errors.New("reading the token: it has not three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	if !strings.HasPrefix(claims.Issuer, "https://") {
		return "", fmt.Errorf("reading the token: the issuer %q is no https address", claims.Issuer)
	}
	return claims.Issuer, nil
}
