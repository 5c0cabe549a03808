package awsfront

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// decision is what a policy says of a request.
type decision int

const (
	undecided decision = iota // no statement speaks of the request
	allowed
	denied
)

// principal is who asks. The fields that do not apply are empty.
type principal struct {
	federated string // ARN of the OIDC provider
	service   string // cloudtrail.amazonaws.com
	account   string // account of an AWS principal
	arn       string // ARN of the caller: a session's, or a user's
	role      string // ARN of the session's role
}

// query is one question to a policy.
type query struct {
	who      principal
	action   string
	resource string              // empty for trust policies, which have none
	context  map[string][]string // condition keys in lower case; an absent key is not in the map
	identity bool                // the policy is the caller's own: it names no principal
}

// reach is how closely a resource policy names the caller that it allows.
type reach int

const (
	byAccount reach = iota // the caller's account: it is for the account to give the right on
	byAnyone               // everyone
	byRole                 // the role whose session the caller is
	byName                 // the very user or session, or a service
)

// document is a policy: of an identity, or of a resource (a role's trust, a
// bucket, a key).
type document struct {
	Version   string
	Statement statements
}

type statement struct {
	Sid          string
	Effect       string
	Principal    principals
	NotPrincipal json.RawMessage
	Action       stringList
	NotAction    stringList
	Resource     stringList
	NotResource  stringList
	Condition    map[string]map[string]stringList
}

// statements is one statement or a list of them.
type statements []statement

// UnmarshalJSON accepts a single statement in place of a list.
func (s *statements) UnmarshalJSON(raw []byte) error {
	if strings.HasPrefix(strings.TrimSpace(string(raw)), "{") {
		var one statement
		if err := json.Unmarshal(raw, &one); err != nil {
			return err
		}
		*s = statements{one}
		return nil
	}
	return json.Unmarshal(raw, (*[]statement)(s))
}

// stringList is one value or a list of them; booleans and numbers are read as
// their text, as IAM reads them.
type stringList []string

// UnmarshalJSON accepts a single value in place of a list.
func (l *stringList) UnmarshalJSON(raw []byte) error {
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	values, ok := v.([]any)
	if !ok {
		values = []any{v}
	}
	*l = make(stringList, 0, len(values))
	for _, v := range values {
		switch v := v.(type) {
		case string:
			*l = append(*l, v)
		case bool, float64:
			*l = append(*l, fmt.Sprint(v))
		default:
			return fmt.Errorf("reading a policy value: %v is no string", v)
		}
	}
	return nil
}

// principals maps AWS, Federated and Service to their values.
type principals map[string]stringList

// UnmarshalJSON accepts "*" for everyone.
func (p *principals) UnmarshalJSON(raw []byte) error {
	if strings.TrimSpace(string(raw)) == `"*"` {
		*p = principals{"*": {"*"}}
		return nil
	}
	return json.Unmarshal(raw, (*map[string]stringList)(p))
}

func parsePolicy(raw string) (*document, error) {
	var d document
	if err := json.Unmarshal([]byte(raw), &d); err != nil {
		return nil, fmt.Errorf("parsing a policy: %w", err)
	}
	return &d, nil
}

// decide evaluates the policy: a denial outranks every allowance.
func (d *document) decide(q query) decision {
	result, _ := d.weigh(q)
	return result
}

// weigh evaluates the policy and tells, of an allowance, how closely its
// statements name the caller.
func (d *document) weigh(q query) (decision, reach) {
	result, closest := undecided, byAccount
	for _, s := range d.Statement {
		near, ok := s.matches(q)
		switch {
		case !ok:
		case s.Effect == "Deny":
			return denied, near
		case s.Effect == "Allow":
			result, closest = allowed, max(closest, near)
		}
	}
	return result, closest
}

// matches reports whether the statement speaks of the query, and how closely
// it names the caller. What this evaluator does not know (NotPrincipal) makes
// an allowance not match and a denial match: the sandbox must not be more open
// than AWS.
func (s *statement) matches(q query) (reach, bool) {
	near, ok := byName, true
	deny := s.Effect == "Deny"
	switch {
	case q.identity:
	case s.NotPrincipal != nil:
		ok = deny
	default:
		near, ok = s.Principal.match(q.who)
	}
	if !ok || !matchList(s.Action, s.NotAction, func(p string) bool { return wildcard(strings.ToLower(p), strings.ToLower(q.action)) }) {
		return near, false
	}
	if q.resource != "" && !matchList(s.Resource, s.NotResource, func(p string) bool { return wildcard(p, q.resource) }) {
		return near, false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !condition(operator, resolved(values, q.context), q.context, strings.ToLower(key), deny) {
				return near, false
			}
		}
	}
	return near, true
}

// ownersOrganization is the one policy variable that is evaluated, as the whole
// value of a condition: "the organization that the resource belongs to" is
// said before anybody knows its id.
const ownersOrganization = "${aws:ResourceOrgID}"

// resolved puts the organization in the variable's place. Where the resource
// is in none, the variable stays, which is nobody's.
func resolved(values []string, context map[string][]string) []string {
	organization := context["aws:resourceorgid"]
	i := slices.Index(values, ownersOrganization)
	if i < 0 || len(organization) != 1 {
		return values
	}
	out := slices.Clone(values)
	out[i] = organization[0]
	return out
}

// matchList is void without either list, as KMS takes statements without an
// action or a resource.
func matchList(yes, no []string, match func(string) bool) bool {
	if yes != nil {
		return slices.ContainsFunc(yes, match)
	}
	return no != nil && !slices.ContainsFunc(no, match)
}

func (p principals) match(who principal) (closest reach, ok bool) {
	for kind, values := range p {
		for _, v := range values {
			near, hit := byName, false
			switch kind {
			case "Federated":
				hit = who.federated != "" && v == who.federated
			case "Service":
				hit = who.service != "" && v == who.service
			case "AWS", "*":
				near, hit = matchAWS(v, who)
			}
			if hit {
				closest, ok = max(closest, near), true
			}
		}
	}
	return closest, ok
}

// matchAWS compares an AWS principal. No wildcard but the lone star exists in
// a principal. An account's root stands for all of its identities.
func matchAWS(v string, who principal) (reach, bool) {
	switch {
	case v == "*":
		return byAnyone, who.account != "" || who.service != ""
	case who.account == "":
		return 0, false
	case v == who.arn:
		return byName, true
	case who.role != "" && v == who.role:
		return byRole, true
	}
	return byAccount, v == who.account || v == "arn:aws:iam::"+who.account+":root"
}

// wildcard matches s against a pattern of * and ?.
func wildcard(pattern, s string) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(s) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == s[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}
