package awsfront

import (
	"maps"
	"strconv"
	"strings"
)

// judge decides on one right of the caller.
func (f *Front) judge(c *call, a ask) (refusalReason, *apiError) {
	r, err := f.rightsOf(c)
	if err != nil {
		return "", internal(err)
	}
	keys, err := f.callerKeys(c)
	if err != nil {
		return "", internal(err)
	}
	maps.Copy(keys, a.context)
	return r.evaluate(query{who: c.caller.principal(), action: a.action, resource: a.resource, context: keys}, a.guard), nil
}

// rightsOf gathers the caller's policies.
func (f *Front) rightsOf(c *call) (*rights, error) {
	account, kind, name := c.caller.entity()
	v, err := f.principalView(c.r.Context(), account, kind, name)
	if err != nil {
		return nil, err
	}
	m, err := f.membershipOf(c.r.Context(), account)
	if err != nil {
		return nil, err
	}
	r := &rights{identity: v.identity, boundary: v.boundary, scps: m.scps}
	for _, text := range c.caller.Policies {
		d, err := parsePolicy(text)
		if err != nil {
			return nil, err
		}
		r.session = append(r.session, d)
	}
	return r, nil
}

// entity names the role or the user behind the credentials.
func (i identity) entity() (account, kind, name string) {
	kind, arn := "user", i.ARN
	if i.Role != "" {
		kind, arn = "role", i.Role
	}
	return i.Account, kind, arn[strings.LastIndexByte(arn, '/')+1:]
}

// authorize refuses a call that the caller's rights do not cover.
func (f *Front) authorize(c *call) *apiError {
	op, known := f.operations[c.service+":"+c.action]
	if !known {
		if c.caller.Permanent {
			return nil
		}
		f.proxyLog().Printf("refused %s:%s to %s: the front does not know which right it needs; add it to operations.go", c.service, c.action, c.caller.ARN)
		return f.denial(c, ask{action: c.service + ":" + c.action, resource: "*"}, "because the sandbox does not know which right this call needs")
	}
	if op.asks == nil {
		return nil
	}
	asks, refused := op.asks(f, c)
	if refused != nil {
		return refused
	}
	for _, a := range asks {
		c.resources = append(c.resources, a.resource)
	}
	for _, a := range asks {
		reason, refused := f.judge(c, a)
		switch {
		case refused != nil:
			return refused
		case reason != "" && a.denial != nil:
			f.proxyLog().Printf("%s: %s", a.denial.code, f.denial(c, a, reason).message)
			return a.denial
		case reason != "":
			return f.denial(c, a, reason)
		}
	}
	for _, a := range asks {
		if a.unusable != nil {
			return a.unusable
		}
	}
	return nil
}

// denial is a refusal in the shape and the words of the service.
func (f *Front) denial(c *call, a ask, reason refusalReason) *apiError {
	code, status := "AccessDenied", 403
	if c.proto == targetJSON || c.proto == restJSON {
		code = "AccessDeniedException"
	}
	if c.proto == targetJSON {
		status = 400
	}
	resource := a.resource
	if c.service == "s3" { // which alone puts it in quotes
		resource = strconv.Quote(resource)
	}
	return refuse(status, code, "User: %s is not authorized to perform: %s on resource: %s %s", c.caller.ARN, a.action, resource, reason)
}
