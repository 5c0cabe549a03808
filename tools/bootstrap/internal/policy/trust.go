package policy

import (
	"strings"

	"gitlab.com/slipway/slipway/pkg/landscape"
)

// Host returns the name of GitLab's OIDC provider: its address without the scheme.
func Host(gitlabURL string) string { return strings.TrimPrefix(gitlabURL, "https://") }

// ProviderARN returns the ARN of GitLab's OIDC provider in an account.
func ProviderARN(accountID, gitlabURL string) string {
	return "arn:aws:iam::" + accountID + ":oidc-provider/" + Host(gitlabURL)
}

// Trust is the trust policy of a role: GitLab's tokens with this audience and
// these subjects, and nothing else. AWS evaluates no other claim of GitLab's
// than aud and sub.
func Trust(role landscape.Role, accountID string, gl landscape.GitLab) Document {
	host := Host(gl.URL)
	base := Statement{Effect: "Allow", Action: []string{"sts:AssumeRoleWithWebIdentity"},
		Principal: map[string][]string{"Federated": {ProviderARN(accountID, gl.URL)}}}
	var exact, like []string
	for _, subject := range role.Subjects {
		if strings.Contains(subject, "*") {
			like = append(like, subject)
		} else {
			exact = append(exact, subject)
		}
	}
	var out []Statement
	if len(exact) > 0 {
		s := base
		s.Sid = "GitLab"
		s.Condition = conditions{"StringEquals": {host + ":aud": {gl.Audience}, host + ":sub": exact}}
		out = append(out, s)
	}
	if len(like) > 0 {
		// StringEquals takes a star by its letter and would match nothing.
		s := base
		s.Sid = "GitLabPattern"
		s.Condition = conditions{"StringEquals": {host + ":aud": {gl.Audience}}, "StringLike": {host + ":sub": like}}
		out = append(out, s)
	}
	return document(out...)
}
