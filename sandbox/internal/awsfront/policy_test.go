package awsfront

import "testing"

const (
	provider = "arn:aws:iam::222222222222:oidc-provider/gitlab.example.com"
	subject  = "project_id:77:ref_protected:true:ref_type:branch:ref:main"
)

func TestTrustConditions(t *testing.T) {
	both := map[string][]string{"gitlab.example.com:aud": {"https://gitlab.example.com"}, "gitlab.example.com:sub": {subject}}
	tests := []struct {
		name, condition string
		want            bool
	}{
		{"none", `{}`, true},
		{"exact", `{"StringEquals":{"gitlab.example.com:sub":"` + subject + `","gitlab.example.com:aud":"https://gitlab.example.com"}}`, true},
		{"key in other case", `{"StringEquals":{"GitLab.example.com:SUB":"` + subject + `"}}`, true},
		{"other project", `{"StringEquals":{"gitlab.example.com:sub":"project_id:7:ref_protected:true:ref_type:branch:ref:main"}}`, false},
		{"one of a list", `{"StringEquals":{"gitlab.example.com:sub":["x","` + subject + `"]}}`, true},
		{"both keys must hold", `{"StringEquals":{"gitlab.example.com:sub":"` + subject + `","gitlab.example.com:aud":"other"}}`, false},
		{"a star is a character for StringEquals", `{"StringEquals":{"gitlab.example.com:sub":"project_id:77:*"}}`, false},
		{"a star is a wildcard for StringLike", `{"StringLike":{"gitlab.example.com:sub":"project_id:77:*"}}`, true},
		{"a prefix without its delimiter covers others", `{"StringLike":{"gitlab.example.com:sub":"project_id:7*"}}`, true},
		{"a prefix with its delimiter does not", `{"StringLike":{"gitlab.example.com:sub":"project_id:7:*"}}`, false},
		{"question mark is one character", `{"StringLike":{"gitlab.example.com:sub":"project_id:7?:ref_protected:true:*"}}`, true},
		{"StringLike is case-sensitive", `{"StringLike":{"gitlab.example.com:sub":"PROJECT_ID:77:*"}}`, false},
		{"ignoring case", `{"StringEqualsIgnoreCase":{"gitlab.example.com:aud":"HTTPS://gitlab.example.com"}}`, true},
		{"not equal", `{"StringNotEquals":{"gitlab.example.com:sub":"other"}}`, true},
		{"not equal to any of a list", `{"StringNotEquals":{"gitlab.example.com:sub":["other","` + subject + `"]}}`, false},
		{"absent key", `{"StringEquals":{"gitlab.example.com:project_id":"77"}}`, false},
		{"absent key with a star", `{"StringLike":{"gitlab.example.com:project_id":"*"}}`, false},
		{"absent key, negated, holds", `{"StringNotEquals":{"gitlab.example.com:project_id":"78"}}`, true},
		{"absent key with IfExists holds", `{"StringEqualsIfExists":{"gitlab.example.com:project_id":"78"}}`, true},
		{"present key with IfExists is compared", `{"StringEqualsIfExists":{"gitlab.example.com:sub":"78"}}`, false},
		{"ForAllValues holds on an absent key", `{"ForAllValues:StringEquals":{"gitlab.example.com:project_id":"78"}}`, true},
		{"ForAnyValue does not", `{"ForAnyValue:StringEquals":{"gitlab.example.com:project_id":"78"}}`, false},
		{"ForAllValues on a present key", `{"ForAllValues:StringLike":{"gitlab.example.com:sub":"project_id:78:*"}}`, false},
		{"Null true wants the key absent", `{"Null":{"gitlab.example.com:project_id":"true"}}`, true},
		{"Null false wants it present", `{"Null":{"gitlab.example.com:project_id":"false"}}`, false},
		{"Bool on an absent key", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`, false},
		{"BoolIfExists on an absent key", `{"BoolIfExists":{"aws:MultiFactorAuthPresent":true}}`, true},
		{"unknown operator", `{"StringMatches":{"gitlab.example.com:sub":"` + subject + `"}}`, false},
		{"unknown set", `{"ForSomeValues:StringEquals":{"gitlab.example.com:sub":"` + subject + `"}}`, false},
		{"two operators must both hold", `{"StringLike":{"gitlab.example.com:sub":"project_id:77:*"},"StringEquals":{"gitlab.example.com:aud":"x"}}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := parsePolicy(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},
				"Action":"sts:AssumeRoleWithWebIdentity","Condition":` + tt.condition + `}]}`)
			if err != nil {
				t.Fatal(err)
			}
			got := d.decide(query{who: principal{federated: provider}, action: "sts:AssumeRoleWithWebIdentity", context: both})
			if (got == allowed) != tt.want {
				t.Errorf("decide = %v, want allowed %v", got, tt.want)
			}
		})
	}
}

func TestStatements(t *testing.T) {
	web := query{who: principal{federated: provider}, action: "sts:AssumeRoleWithWebIdentity"}
	session := query{action: "sts:AssumeRole", who: principal{account: "111111111111",
		arn: "arn:aws:sts::111111111111:assumed-role/bootstrap/s1", role: "arn:aws:iam::111111111111:role/ci/bootstrap"}}
	put := query{action: "s3:PutObject", resource: "arn:aws:s3:::b/AWSLogs/1/x", who: principal{service: "cloudtrail.amazonaws.com"},
		context: map[string][]string{"aws:sourcearn": {"arn:aws:cloudtrail:eu-central-1:111111111111:trail/audit"}, "s3:tlsversion": {"1.3"}}}
	inside := session
	inside.context = map[string][]string{"aws:principalorgid": {"o-example"}, "aws:resourceorgid": {"o-example"}}
	nowhere := session
	nowhere.context = map[string][]string{"aws:principalorgid": {"o-example"}}
	const ours = `"Principal":"*","Action":"sts:AssumeRole","Condition":{"StringEquals":{"aws:PrincipalOrgID":["o-x","${aws:ResourceOrgID}"]}}}`
	const others = `"Principal":"*","Action":"sts:AssumeRole","Condition":{"StringNotEquals":{"aws:PrincipalOrgID":"${aws:ResourceOrgID}"}}}`
	tests := []struct {
		name, statement string
		q               query
		want            decision
	}{
		{"provider of another account", `{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::333333333333:oidc-provider/gitlab.example.com"},"Action":"sts:AssumeRoleWithWebIdentity"}`, web, undecided},
		{"star is no federated principal", `{"Effect":"Allow","Principal":"*","Action":"sts:*"}`, web, undecided},
		{"wrong action", `{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":"sts:AssumeRole"}`, web, undecided},
		{"action by wildcard, any case", `{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":"STS:assumerolewith*"}`, web, allowed},
		{"no action", `{"Effect":"Allow","Principal":{"Federated":"` + provider + `"}}`, web, undecided},
		{"NotAction", `{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"NotAction":"sts:AssumeRole"}`, web, allowed},
		{"NotPrincipal allows nobody", `{"Effect":"Allow","NotPrincipal":{"AWS":"x"},"Action":"*"}`, session, undecided},
		{"root of the account", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:root"},"Action":"sts:AssumeRole"}`, session, allowed},
		{"account id", `{"Effect":"Allow","Principal":{"AWS":["222222222222","111111111111"]},"Action":"sts:AssumeRole"}`, session, allowed},
		{"root of another", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::222222222222:root"},"Action":"sts:AssumeRole"}`, session, undecided},
		{"the role with its path", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/ci/bootstrap"},"Action":"sts:AssumeRole"}`, session, allowed},
		{"the role without its path", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/bootstrap"},"Action":"sts:AssumeRole"}`, session, undecided},
		{"no wildcard in a principal", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111111111111:role/*"},"Action":"sts:AssumeRole"}`, session, undecided},
		{"the session", `{"Effect":"Allow","Principal":{"AWS":"arn:aws:sts::111111111111:assumed-role/bootstrap/s1"},"Action":"sts:AssumeRole"}`, session, allowed},
		{"everyone", `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}`, session, allowed},
		{"deny wins", `[{"Effect":"Deny","Principal":{"AWS":"111111111111"},"Action":"sts:*"},{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]`, session, denied},
		{"a deny with an unknown operator denies", `[{"Effect":"Deny","Principal":"*","Action":"*","Condition":{"Guess":{"a":"b"}}},{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]`, session, denied},
		{"a deny whose condition fails", `[{"Effect":"Deny","Principal":"*","Action":"*","Condition":{"StringEquals":{"sts:ExternalId":"b"}}},{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole"}]`, session, allowed},
		{"the owner's organization", `{"Effect":"Allow",` + ours, inside, allowed},
		{"an owner without an organization", `{"Effect":"Allow",` + ours, nowhere, undecided},
		{"a deny of other organizations", `{"Effect":"Deny",` + others, inside, undecided},
		{"a deny of all organizations but none", `{"Effect":"Deny",` + others, nowhere, denied},
		{"service on its path", `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"arn:aws:s3:::b/AWSLogs/1/*"}`, put, allowed},
		{"service on another path", `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"arn:aws:s3:::b/AWSLogs/2/*"}`, put, undecided},
		{"no resource is void", `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject"}`, put, undecided},
		{"source ARN by pattern", `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:cloudtrail:*:111111111111:trail/*"}}}`, put, allowed},
		{"source ARN of another account", `{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"*","Condition":{"ArnLike":{"aws:SourceArn":"arn:aws:cloudtrail:*:2*:trail/*"}}}`, put, undecided},
		{"old TLS denied", `[{"Effect":"Deny","Principal":"*","Action":"s3:*","Resource":"*","Condition":{"NumericLessThan":{"s3:TlsVersion":1.2}}},{"Effect":"Allow","Principal":{"Service":"cloudtrail.amazonaws.com"},"Action":"s3:PutObject","Resource":"*"}]`, put, allowed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d, err := parsePolicy(`{"Version":"2012-10-17","Statement":` + tt.statement + `}`)
			if err != nil {
				t.Fatal(err)
			}
			if got := d.decide(tt.q); got != tt.want {
				t.Errorf("decide = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestWildcard(t *testing.T) {
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"*", "", true}, {"", "a", false}, {"a*c", "abbc", true}, {"a*c", "abb", false},
		{"*a*b*", "xxaxxbxx", true}, {"a?c", "ac", false}, {"a**", "a", true}, {"ab", "abc", false},
	}
	for _, tt := range tests {
		if got := wildcard(tt.pattern, tt.s); got != tt.want {
			t.Errorf("wildcard(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}
