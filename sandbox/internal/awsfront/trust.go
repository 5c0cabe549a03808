package awsfront

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// role is what STS needs to know of a role.
type role struct {
	id         string
	trust      *document
	maxSession time.Duration
}

var errNoRole = errors.New("looking the role up: there is none")

// lookUpRole returns the role as IAM lets it be seen; its whole ARN, path
// included, must be right.
func (f *Front) lookUpRole(ctx context.Context, arn string) (role, error) {
	account, name, ok := roleARN(arn)
	if !ok {
		return role{}, errNoRole
	}
	v, err := f.principalView(ctx, account, "role", name)
	if err != nil {
		return role{}, err
	}
	if !v.exists || v.arn != arn {
		return role{}, errNoRole
	}
	return role{id: v.id, trust: v.trust, maxSession: v.maxSession}, nil
}

// trustedByCaller asks both sides: the role's trust policy, and the caller's
// own rights where the trust leaves the decision to its account.
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
	if refused := a.inherit(c); refused != nil {
		return r, refused
	}
	if len(a.tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	keys, refusal := f.assumeKeys(c, a)
	if refusal != nil {
		return r, refusal
	}
	c.resources = []string{a.arn}
	for _, action := range actions {
		ask := ask{action: action, resource: a.arn, context: keys,
			guard: guard{policy: r.trust, sole: true, trust: true, foreign: a.account != c.caller.Account}}
		reason, failed := f.judge(c, ask)
		switch {
		case failed != nil:
			return r, failed
		case reason == missing("resource-based policy", action) && action == "sts:AssumeRole":
			return r, refused
		case reason != "":
			return r, f.denial(c, ask, reason)
		}
	}
	return r, nil
}

// assumeKeys are the condition keys of an AssumeRole.
func (f *Front) assumeKeys(c *call, a *assumption) (map[string][]string, *apiError) {
	keys := map[string][]string{"sts:rolesessionname": {a.session}, "aws:resourceaccount": {a.account}}
	add := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	owner, err := f.membershipOf(c.r.Context(), a.account)
	if err != nil {
		return nil, internal(err)
	}
	add("aws:resourceorgid", owner.organization)
	add("sts:sourceidentity", a.source)
	add("sts:externalid", c.form.Get("ExternalId"))
	for k, v := range a.tags {
		add("aws:requesttag/"+strings.ToLower(k), v)
		keys["aws:tagkeys"] = append(keys["aws:tagkeys"], k)
	}
	if len(a.transitive) > 0 {
		keys["sts:transitivetagkeys"] = a.transitive
	}
	return keys, nil
}

// callerKeys are the condition keys that every call of an identity has, in the
// form query.context wants them. The loopback stands for TLS.
func (f *Front) callerKeys(c *call) (map[string][]string, error) {
	principalARN, kind := c.caller.ARN, "User"
	if c.caller.Role != "" {
		principalARN, kind = c.caller.Role, "AssumedRole"
	}
	now := f.now().UTC()
	keys := map[string][]string{"aws:principalarn": {principalARN}, "aws:principalaccount": {c.caller.Account}, "aws:principaltype": {kind},
		"aws:userid": {c.caller.UserID}, "aws:principalisawsservice": {"false"}, "aws:viaawsservice": {"false"},
		"aws:securetransport": {"true"}, "s3:tlsversion": {"1.3"}, "aws:requestedregion": {c.region},
		"aws:currenttime": {now.Format(time.RFC3339)}, "aws:epochtime": {strconv.FormatInt(now.Unix(), 10)},
		"aws:resourceaccount": {c.target}}
	add := func(key, value string) {
		if value != "" {
			keys[key] = []string{value}
		}
	}
	if host, _, err := net.SplitHostPort(c.r.RemoteAddr); err == nil {
		add("aws:sourceip", host)
	}
	add("aws:sourceidentity", c.caller.Source)
	if !c.caller.Issued.IsZero() {
		add("aws:tokenissuetime", c.caller.Issued.UTC().Format(time.RFC3339))
	}
	account, entity, name := c.caller.entity()
	if entity == "user" {
		add("aws:username", name)
	}
	v, err := f.principalView(c.r.Context(), account, entity, name)
	if err != nil {
		return nil, err
	}
	for _, tags := range []map[string]string{v.tags, c.caller.Tags} { // the session's win
		for k, value := range tags {
			add("aws:principaltag/"+strings.ToLower(k), value)
		}
	}
	for key, account := range map[string]string{"aws:principalorgid": c.caller.Account, "aws:resourceorgid": c.target} {
		m, err := f.membershipOf(c.r.Context(), account)
		if err != nil {
			return nil, err
		}
		add(key, m.organization)
	}
	return keys, nil
}
