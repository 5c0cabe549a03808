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
}

// document is a resource policy: a trust policy, a bucket's or a key's.
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
	result := undecided
	for _, s := range d.Statement {
		switch s.Effect {
		case "Deny":
			if s.matches(q, true) {
				return denied
			}
		case "Allow":
			if s.matches(q, false) {
				result = allowed
			}
		}
	}
	return result
}

// matches reports whether the statement speaks of the query. What this
// evaluator does not know (NotPrincipal, an operator) makes an allowance not
// match and a denial match: the sandbox must not be more open than AWS.
func (s *statement) matches(q query, deny bool) bool {
	if s.NotPrincipal != nil {
		if !deny {
			return false
		}
	} else if !s.Principal.match(q.who) {
		return false
	}
	if !matchList(s.Action, s.NotAction, func(p string) bool {
		return wildcard(strings.ToLower(p), strings.ToLower(q.action))
	}) {
		return false
	}
	if q.resource != "" && !matchList(s.Resource, s.NotResource, func(p string) bool { return wildcard(p, q.resource) }) {
		return false
	}
	for operator, keys := range s.Condition {
		for key, values := range keys {
			if !condition(operator, values, q.context, strings.ToLower(key), deny) {
				return false
			}
		}
	}
	return true
}

// matchList is void without either list, as KMS takes statements without an
// action or a resource.
func matchList(yes, no []string, match func(string) bool) bool {
	if yes != nil {
		return slices.ContainsFunc(yes, match)
	}
	return no != nil && !slices.ContainsFunc(no, match)
}

func (p principals) match(who principal) bool {
	for kind, values := range p {
		for _, v := range values {
			switch kind {
			case "Federated":
				if who.federated != "" && v == who.federated {
					return true
				}
			case "Service":
				if who.service != "" && v == who.service {
					return true
				}
			case "AWS", "*":
				if matchAWS(v, who) {
					return true
				}
			}
		}
	}
	return false
}

// matchAWS compares an AWS principal. No wildcard but the lone star exists in
// a principal. An account's root stands for all of its identities; whether
// their own policies permit the call is not evaluated here (yet).
func matchAWS(v string, who principal) bool {
	if v == "*" {
		return who.account != "" || who.service != ""
	}
	if who.account == "" {
		return false
	}
	return v == who.account || v == "arn:aws:iam::"+who.account+":root" || v == who.arn || who.role != "" && v == who.role
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
