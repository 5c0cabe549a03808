package awsfront

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/coreos/go-oidc/v3/oidc"
)

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
