package awsfront

import (
	"strings"
	"testing"
)

const (
	roleR    = "arn:aws:iam::111111111111:role/r"
	sessionS = "arn:aws:sts::111111111111:assumed-role/r/s"
	object   = "arn:aws:s3:::b/k"
)

// TestEvaluation goes through IAM's documented evaluation logic: which kinds
// of policies must allow, which are enough, and that a denial anywhere ends it.
func TestEvaluation(t *testing.T) {
	allow := `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`
	other := `{"Effect":"Allow","Action":"s3:PutObject","Resource":"*"}`
	deny := `{"Effect":"Deny","Action":"s3:Get*","Resource":"arn:aws:s3:::b/*"}`
	names := func(principal string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}`
	}
	denies := `{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"false"}}}`
	const root = "arn:aws:iam::111111111111:root"
	identity, boundary, session, scp, resource := missing("identity-based policy", "s3:GetObject"), missing("permissions boundary", "s3:GetObject"),
		missing("session policy", "s3:GetObject"), missing("service control policy", "s3:GetObject"), missing("resource-based policy", "s3:GetObject")
	tests := []struct {
		name                        string
		identity, boundary, session string     // statements; "": no such policy
		scps                        [][]string // levels of policies
		resource                    string
		foreign, sole, plain        bool
		want                        refusalReason
	}{
		{name: "nothing allows", want: identity},
		{name: "identity allows", identity: allow},
		{name: "identity allows something else", identity: other, want: identity},
		{name: "identity denies", identity: allow + "," + deny, want: "with an explicit deny in an identity-based policy"},

		{name: "boundary allows nothing by itself", boundary: allow, want: identity},
		{name: "boundary and identity", identity: allow, boundary: allow},
		{name: "boundary leaves it out", identity: allow, boundary: other, want: boundary},
		{name: "boundary denies", identity: allow, boundary: allow + "," + deny, want: explicit("permissions boundary")},
		{name: "session policy allows nothing by itself", session: allow, want: identity},
		{name: "session policy and identity", identity: allow, session: allow},
		{name: "session policy leaves it out", identity: allow, session: other, want: session},
		{name: "session policy denies", identity: allow, session: allow + "," + deny, want: explicit("session policy")},
		{name: "boundary, session policy and identity", identity: allow, boundary: allow, session: allow},

		{name: "control policy on each level", identity: allow, scps: [][]string{{allow}, {other, allow}}},
		{name: "control policy missing on one level", identity: allow, scps: [][]string{{allow}, {other}}, want: scp},
		{name: "level without control policies", identity: allow, scps: [][]string{{allow}, {}}, want: scp},
		{name: "control policy denies", identity: allow, scps: [][]string{{allow}, {allow, deny}}, want: explicit("service control policy")},
		{name: "control policies give nothing", scps: [][]string{{allow}}, want: identity},
		{name: "control policies bind where the bucket allows", scps: [][]string{{other}}, resource: names(roleR), want: scp},

		{name: "bucket names the role", resource: names(roleR)},
		{name: "bucket names the session", resource: names(sessionS)},
		{name: "bucket names everyone", resource: names("*")},
		{name: "bucket names the account: it decides", resource: names(root), want: identity},
		{name: "bucket names the account, identity allows", identity: allow, resource: names(root)},
		{name: "bucket names another role", resource: names("arn:aws:iam::111111111111:role/q"), want: identity},
		{name: "bucket says nothing, identity allows", identity: allow, resource: names("arn:aws:iam::111111111111:role/q")},
		{name: "bucket denies plain HTTP", identity: allow, resource: denies, plain: true, want: explicit("resource-based policy")},
		{name: "bucket's denial does not apply", identity: allow, resource: denies},
		{name: "identity denies what the bucket allows", identity: deny, resource: names(roleR), want: "with an explicit deny in an identity-based policy"},
		{name: "boundary limits what the bucket gives the role", boundary: other, resource: names(roleR), want: boundary},
		{name: "boundary does not limit what it gives the session", boundary: other, resource: names(sessionS)},
		{name: "session policy limits what the bucket gives the role", session: other, resource: names(roleR), want: session},
		{name: "session policy does not limit what it gives the session", session: other, resource: names(sessionS)},

		{name: "foreign: identity alone", identity: allow, foreign: true, want: resource},
		{name: "foreign: bucket alone", resource: names(roleR), foreign: true, want: identity},
		{name: "foreign: even naming the session", resource: names(sessionS), foreign: true, want: identity},
		{name: "foreign: both", identity: allow, resource: names(roleR), foreign: true},
		{name: "foreign: both, by the account", identity: allow, resource: names(root), foreign: true},
		{name: "foreign: boundary limits", identity: allow, boundary: other, resource: names(roleR), foreign: true, want: boundary},

		{name: "key: identity alone is nothing", identity: allow, resource: names("arn:aws:iam::111111111111:role/q"), sole: true, want: resource},
		{name: "key: the policy names the role", resource: names(roleR), sole: true},
		{name: "key: the policy leaves it to the account", resource: names(root), sole: true, want: identity},
		{name: "key: the account allows then", identity: allow, resource: names(root), sole: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &rights{identity: policies(t, tt.identity), session: policies(t, tt.session)}
			if tt.boundary != "" {
				r.boundary = policies(t, tt.boundary)[0]
			}
			for _, level := range tt.scps {
				docs := []*document{}
				for _, s := range level {
					docs = append(docs, policies(t, s)...)
				}
				r.scps = append(r.scps, docs)
			}
			g := guard{foreign: tt.foreign, sole: tt.sole}
			if tt.resource != "" {
				g.policy = policies(t, tt.resource)[0]
			}
			tls := "true"
			if tt.plain {
				tls = "false"
			}
			q := query{who: principal{account: "111111111111", arn: sessionS, role: roleR}, action: "s3:GetObject", resource: object,
				context: map[string][]string{"aws:securetransport": {tls}}}
			if got := r.evaluate(q, g); got != tt.want {
				t.Errorf("refused %q, want %q", got, tt.want)
			}
		})
	}
}

// policies is a list of one policy with the statements, or of none.
func policies(t *testing.T, statements string) []*document {
	t.Helper()
	if statements == "" {
		return nil
	}
	d, err := parsePolicy(`{"Version":"2012-10-17","Statement":[` + statements + `]}`)
	if err != nil {
		t.Fatal(err)
	}
	return []*document{d}
}

// TestTrust: a trust policy names no resource, and leaves to the account what
// it gives to the account.
func TestTrust(t *testing.T) {
	const target = "arn:aws:iam::222222222222:role/target"
	trust := func(principal string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"}`
	}
	assume := func(resource string) string {
		return `{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"` + resource + `"}`
	}
	tests := []struct {
		name, trust, identity string
		foreign               bool
		want                  refusalReason
	}{
		{"same account, by name", trust(roleR), "", false, ""},
		{"same account, by account", trust("111111111111"), "", false, missing("identity-based policy", "sts:AssumeRole")},
		{"same account, by account, with the right", trust("111111111111"), assume(target), false, ""},
		{"across, by name", trust(roleR), "", true, missing("identity-based policy", "sts:AssumeRole")},
		{"across, by name, with the right", trust(roleR), assume("arn:aws:iam::*:role/target"), true, ""},
		{"across, with the right for another role", trust(roleR), assume("arn:aws:iam::*:role/other"), true, missing("identity-based policy", "sts:AssumeRole")},
		{"across, not trusted", trust("arn:aws:iam::111111111111:role/q"), assume("*"), true, missing("resource-based policy", "sts:AssumeRole")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := &rights{identity: policies(t, tt.identity)}
			q := query{who: principal{account: "111111111111", arn: sessionS, role: roleR}, action: "sts:AssumeRole", resource: target}
			if got := r.evaluate(q, guard{policy: policies(t, tt.trust)[0], sole: true, trust: true, foreign: tt.foreign}); got != tt.want {
				t.Errorf("refused %q, want %q", got, tt.want)
			}
		})
	}
}

func TestMorePrecisely(t *testing.T) {
	context := map[string][]string{"aws:currenttime": {"2026-11-24T10:00:00Z"}, "aws:sourceip": {"10.1.2.3"}, "aws:tagkeys": {"a", "b"}}
	tests := []struct {
		operator, key string
		want          []string
		holds         bool
	}{
		{"DateLessThan", "aws:currenttime", []string{"2026-11-25"}, true},
		{"DateGreaterThan", "aws:currenttime", []string{"2026-11-24T10:00:00Z"}, false},
		{"DateGreaterThanEquals", "aws:currenttime", []string{"2026-11-24T10:00:00Z"}, true},
		{"DateEquals", "aws:currenttime", []string{"no date"}, false},
		{"DateNotEquals", "aws:currenttime", []string{"2026-11-24T10:00:01Z"}, true},
		{"IpAddress", "aws:sourceip", []string{"192.168.0.0/16", "10.0.0.0/8"}, true},
		{"IpAddress", "aws:sourceip", []string{"10.1.2.4"}, false},
		{"NotIpAddress", "aws:sourceip", []string{"10.1.2.3"}, false},
		{"ForAllValues:StringEquals", "aws:tagkeys", []string{"a", "b", "c"}, true},
		{"ForAllValues:StringEquals", "aws:tagkeys", []string{"a"}, false},
		{"ForAnyValue:StringEquals", "aws:tagkeys", []string{"b"}, true},
		{"ForAnyValue:StringEquals", "aws:tagkeys", []string{"c"}, false},
		{"ForAllValues:StringNotEquals", "aws:tagkeys", []string{"a"}, false},
		{"ForAnyValue:StringNotEquals", "aws:tagkeys", []string{"a"}, true},
		{"StringNotLike", "aws:tagkeys", []string{"b*"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.operator+" "+strings.Join(tt.want, ","), func(t *testing.T) {
			if got := condition(tt.operator, tt.want, context, tt.key, false); got != tt.holds {
				t.Errorf("condition = %v", got)
			}
		})
	}
}

// TestPoliciesThatAreNotStored: what cannot be judged is refused when it is
// written, not passed over when it matters.
func TestPoliciesThatAreNotStored(t *testing.T) {
	tests := []struct {
		name, statement string
		ofResource      bool
		want            string // "": stored
	}{
		{"a role's", `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, false, ""},
		{"a bucket's", `{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`, true, ""},
		{"a key's statement without a resource is stored and void", `{"Effect":"Allow","Principal":"*","Action":"kms:*"}`, true, ""},
		{"no effect", `{"Action":"s3:*","Resource":"*"}`, false, "Invalid effect"},
		{"no action", `{"Effect":"Allow","Resource":"*"}`, false, "must contain actions"},
		{"no resource", `{"Effect":"Allow","Action":"s3:*"}`, false, "must contain resources"},
		{"a principal in a role's", `{"Effect":"Allow","Principal":"*","Action":"s3:*","Resource":"*"}`, false, "should not specify a principal"},
		{"no principal in a bucket's", `{"Effect":"Allow","Action":"s3:*","Resource":"*"}`, true, "Missing required field Principal"},
		{"an operator that IAM has not", `{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"StringMatches":{"a":"b"}}}`, false, "Invalid Condition type : StringMatches"},
		{"a set that IAM has not", `{"Effect":"Deny","Action":"s3:*","Resource":"*","Condition":{"ForSomeValues:StringLike":{"a":"b"}}}`, false, "Invalid Condition type"},
		{"a variable", `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::b/${aws:username}"}`, false, "no policy variables"},
		{"the owner's organization as a resource", `{"Effect":"Allow","Action":"s3:*","Resource":"${aws:ResourceOrgID}"}`, false, "no policy variables"},
		{"the owner's organization", `{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalOrgID":"${aws:ResourceOrgID}"}}}`, false, ""},
		{"a variable in a condition", `{"Effect":"Allow","Action":"s3:*","Resource":"*","Condition":{"StringLike":{"s3:prefix":"${aws:username}/*"}}}`, false, "no policy variables"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := readPolicy(`{"Version":"2012-10-17","Statement":`+tt.statement+`}`, tt.ofResource)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error = %v, want %q", err, tt.want)
			}
		})
	}
}
