package awsfront

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

const stsNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"

type responseMetadata struct {
	RequestID string `xml:"RequestId"`
}

type xmlCredentials struct {
	AccessKeyId, SecretAccessKey, SessionToken, Expiration string
}

type xmlRoleUser struct{ AssumedRoleId, Arn string }

type assumeRoleResult struct {
	Credentials                 xmlCredentials
	AssumedRoleUser             xmlRoleUser
	SourceIdentity              string `xml:",omitempty"`
	SubjectFromWebIdentityToken string `xml:",omitempty"`
	Audience                    string `xml:",omitempty"`
	Provider                    string `xml:",omitempty"`
}

// serveSTS answers STS. GetSessionToken and GetFederationToken are refused:
// moto hands out one canned key for them.
func (f *Front) serveSTS(c *call) {
	switch c.action {
	case "AssumeRole":
		f.assumeRole(c)
	case "AssumeRoleWithWebIdentity":
		f.assumeWithWebIdentity(c)
	case "GetCallerIdentity":
		type result struct{ Arn, UserId, Account string }
		writeXML(c.w, http.StatusOK, struct {
			XMLName  xml.Name         `xml:"GetCallerIdentityResponse"`
			NS       string           `xml:"xmlns,attr"`
			Result   result           `xml:"GetCallerIdentityResult"`
			Metadata responseMetadata `xml:"ResponseMetadata"`
		}{NS: stsNamespace, Result: result{c.caller.ARN, c.caller.UserID, c.caller.Account}, Metadata: responseMetadata{requestID()}})
	default:
		c.fail(refuse(http.StatusBadRequest, "InvalidAction", "Could not find operation %s: the sandbox's STS answers AssumeRole, AssumeRoleWithWebIdentity and GetCallerIdentity", c.action))
	}
}

// assumption is a role session that was asked for.
type assumption struct {
	arn, account, name string // of the role
	session, source    string
	duration           time.Duration
	policies           []string // session policies
	tags               map[string]string
	transitive         []string
}

func invalid(format string, args ...any) *apiError {
	return refuse(http.StatusBadRequest, "ValidationError", format, args...)
}

// readAssumption reads and checks what both calls have in common.
func readAssumption(c *call) (assumption, *apiError) {
	a := assumption{arn: c.form.Get("RoleArn"), session: c.form.Get("RoleSessionName"), duration: time.Hour}
	name := regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
	var ok bool
	if a.account, a.name, ok = roleARN(a.arn); !ok {
		return a, invalid("%s is invalid", a.arn)
	}
	if !name.MatchString(a.session) {
		return a, invalid("1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]* and have 2 to 64 characters", a.session)
	}
	if a.source = c.form.Get("SourceIdentity"); a.source != "" && !name.MatchString(a.source) {
		return a, invalid("1 validation error detected: Value '%s' at 'sourceIdentity' failed to satisfy constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*", a.source)
	}
	if text := c.form.Get("DurationSeconds"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 900 || seconds > 43200 {
			return a, invalid("1 validation error detected: Value '%s' at 'durationSeconds' failed to satisfy constraint: Member must have value between 900 and 43200", text)
		}
		a.duration = time.Duration(seconds) * time.Second
	}
	a.tags = c.tags()
	for i := 1; c.form.Has(fmt.Sprintf("TransitiveTagKeys.member.%d", i)); i++ {
		a.transitive = append(a.transitive, c.form.Get(fmt.Sprintf("TransitiveTagKeys.member.%d", i)))
	}
	return a, nil
}

// maxSessionPolicy is STS's limit of a session policy, in characters.
const maxSessionPolicy = 2048

// limit reads the session policies, of which managed ones are the role's
// account's.
func (f *Front) limit(c *call, a *assumption) *apiError {
	if text := c.form.Get("Policy"); text != "" {
		if len(text) > maxSessionPolicy {
			return invalid("1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less than or equal to %d", maxSessionPolicy)
		}
		if _, err := readPolicy(text, false); err != nil {
			return malformed(err, "MalformedPolicyDocument")
		}
		a.policies = append(a.policies, text)
	}
	for i := 1; c.form.Has(fmt.Sprintf("PolicyArns.member.%d.arn", i)); i++ {
		text, err := f.managedText(c.r.Context(), a.account, c.form.Get(fmt.Sprintf("PolicyArns.member.%d.arn", i)))
		if err != nil {
			return malformed(err, "MalformedPolicyDocument")
		}
		a.policies = append(a.policies, text)
	}
	return nil
}

// inherit adds the tags that the caller's own session hands on; those cannot
// be overwritten.
func (a *assumption) inherit(c *call) *apiError {
	for _, key := range c.caller.Transitive {
		if _, given := a.tags[key]; given {
			return refuse(http.StatusBadRequest, "InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session: %s", key)
		}
		a.tags[key] = c.caller.Tags[key]
		a.transitive = append(a.transitive, key)
	}
	return nil
}

func (a assumption) checkDuration(r role) *apiError {
	if a.duration > r.maxSession {
		return invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	return nil
}

func (f *Front) assumeRole(c *call) {
	a, refused := readAssumption(c)
	if refused != nil {
		c.fail(refused)
		return
	}
	r, refused := f.trustedByCaller(c, &a)
	if refused != nil {
		c.fail(refused)
		return
	}
	if c.caller.Role != "" && a.duration > time.Hour {
		c.fail(invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining."))
		return
	}
	refused = a.checkDuration(r)
	if refused == nil {
		refused = f.limit(c, &a)
	}
	if refused != nil {
		c.fail(refused)
		return
	}
	result, refused := f.issue(c, a, r)
	if refused != nil {
		c.fail(refused)
		return
	}
	writeXML(c.w, http.StatusOK, struct {
		XMLName  xml.Name         `xml:"AssumeRoleResponse"`
		NS       string           `xml:"xmlns,attr"`
		Result   assumeRoleResult `xml:"AssumeRoleResult"`
		Metadata responseMetadata `xml:"ResponseMetadata"`
	}{NS: stsNamespace, Result: result, Metadata: responseMetadata{requestID()}})
}

func (f *Front) assumeWithWebIdentity(c *call) {
	a, refused := readAssumption(c)
	if refused != nil {
		c.fail(refused)
		return
	}
	a.source, a.tags, a.transitive = "", nil, nil // they come from the token, and GitLab's carries none
	r, token, refused := f.trustedByToken(c, a)
	if refused != nil {
		c.fail(refused)
		return
	}
	refused = a.checkDuration(r)
	if refused == nil {
		refused = f.limit(c, &a)
	}
	if refused != nil {
		c.fail(refused)
		return
	}
	result, refused := f.issue(c, a, r)
	if refused != nil {
		c.fail(refused)
		return
	}
	result.SubjectFromWebIdentityToken, result.Audience, result.Provider = token.subject, token.audience[0], token.provider
	writeXML(c.w, http.StatusOK, struct {
		XMLName  xml.Name         `xml:"AssumeRoleWithWebIdentityResponse"`
		NS       string           `xml:"xmlns,attr"`
		Result   assumeRoleResult `xml:"AssumeRoleWithWebIdentityResult"`
		Metadata responseMetadata `xml:"ResponseMetadata"`
	}{NS: stsNamespace, Result: result, Metadata: responseMetadata{requestID()}})
}

// issue has moto make the session, in the role's account, and keeps its secret
// so that signatures with it can be checked.
func (f *Front) issue(c *call, a assumption, r role) (assumeRoleResult, *apiError) {
	seconds := int32(a.duration / time.Second)
	out, err := f.moto.sts(a.account).AssumeRole(c.r.Context(), &sts.AssumeRoleInput{RoleArn: &a.arn, RoleSessionName: &a.session, DurationSeconds: &seconds})
	if err != nil {
		return assumeRoleResult{}, internal(err)
	}
	id := identity{
		Account: a.account, Role: a.arn, Session: a.session, Source: a.source,
		ARN:     "arn:aws:sts::" + a.account + ":assumed-role/" + a.name + "/" + a.session,
		UserID:  r.id + ":" + a.session,
		Secret:  aws.ToString(out.Credentials.SecretAccessKey),
		Token:   aws.ToString(out.Credentials.SessionToken),
		Expires: f.now().Add(a.duration).UTC().Truncate(time.Second),
		Issued:  f.now().UTC(), Policies: a.policies, Tags: a.tags, Transitive: a.transitive,
	}
	key := aws.ToString(out.Credentials.AccessKeyId)
	if refused := f.store.change(func(d *data) *apiError { d.Keys[key] = id; return nil }); refused != nil {
		return assumeRoleResult{}, refused
	}
	return assumeRoleResult{
		Credentials:     xmlCredentials{key, id.Secret, id.Token, id.Expires.Format(time.RFC3339)},
		AssumedRoleUser: xmlRoleUser{id.UserID, id.ARN},
		SourceIdentity:  a.source,
	}, nil
}
