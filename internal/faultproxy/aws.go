package faultproxy

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// AWS is AWS's API: every service behind one address, as emulators have it.
// What was signed reaches it unchanged.
func AWS() Part {
	return Part{Name: "aws", describe: describeAWS, refuse: refuseAWS}
}

// S3 is an S3 gateway.
func S3() Part {
	return Part{Name: "s3", describe: describeS3, refuse: func(_ *http.Request, f Fault) reply { return refuseS3(f) }}
}

// awsReads are the actions of services with named actions that change nothing;
// every other one counts as a change.
// Sessions and cryptography with a key count as such.
func awsReads() []string {
	return []string{
		"GetTrail", "GetTrailStatus", "DescribeTrails",
		"GetOpenIDConnectProvider", "ListOpenIDConnectProviders", "GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies", "ListRoles", "GetUser",
		"DescribeKey", "GetKeyPolicy", "GetKeyRotationStatus", "GetPublicKey", "ListAliases", "ListKeys", "ListResourceTags",
		"Sign", "Verify", "Encrypt", "Decrypt", "GenerateDataKey",
		"DescribeCreateAccountStatus", "DescribeOrganization", "ListAWSServiceAccessForOrganization", "ListAccounts", "ListCreateAccountStatus",
		"ListOrganizationalUnitsForParent", "ListParents", "ListRoots",
		"GetParameter", "GetParameters", "GetParametersByPath", "DescribeParameters",
		"GetCallerIdentity", "AssumeRole", "AssumeRoleWithWebIdentity",
	}
}

// protocol is how an AWS service speaks.
type protocol int

const (
	restXML  protocol = iota // S3
	restJSON                 // EKS
	targetJSON
	query
)

func protocolOf(r *http.Request) protocol {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch {
	case r.Header.Get("X-Amz-Target") != "":
		return targetJSON
	case r.Method == http.MethodPost && kind == "application/x-www-form-urlencoded", r.URL.Query().Has("Action"):
		return query
	case signedFor(r) == "" || signedFor(r) == "s3":
		return restXML
	}
	return restJSON
}

// signedFor returns the service of a signature's scope:
// KEY/DATE/REGION/SERVICE/aws4_request.
func signedFor(r *http.Request) string {
	scope := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		scope, _, _ = strings.Cut(rest, ",")
	}
	parts := strings.Split(scope, "/")
	if len(parts) < 5 {
		return ""
	}
	return strings.ToLower(parts[len(parts)-2])
}

func describeAWS(r *http.Request) Call {
	switch protocolOf(r) {
	case targetJSON:
		target := r.Header.Get("X-Amz-Target")
		return named(target[strings.LastIndexByte(target, '.')+1:])
	case query:
		return named(formAction(r))
	case restXML:
		return describeS3(r)
	}
	// EKS: clusters/NAME/access-entries/ARN/access-policies
	parts := strings.Split(strings.Trim(r.URL.EscapedPath(), "/"), "/")
	return Call{Action: r.Method + " " + parts[(len(parts)-1)/2*2], Mutates: !reads(r.Method)}
}

func named(action string) Call {
	return Call{Action: action, Mutates: !slices.Contains(awsReads(), action)}
}

// mostForm bounds what is read of a body to find the action's name in it.
const mostForm = 1 << 20

// formAction returns the action of a form, and leaves the body as it was.
func formAction(r *http.Request) string {
	if action := r.URL.Query().Get("Action"); action != "" || r.Body == nil {
		return action
	}
	start, err := io.ReadAll(io.LimitReader(r.Body, mostForm))
	r.Body = body{io.MultiReader(bytes.NewReader(start), r.Body), r.Body}
	if err != nil {
		return ""
	}
	form, _ := url.ParseQuery(string(start)) // what can be read is enough
	return form.Get("Action")
}

type body struct {
	io.Reader
	io.Closer
}

// describeS3 names a call by its method and what it is about: "PUT object",
// "PUT bucket ?policy". An upload is a call for each of its parts.
func describeS3(r *http.Request) Call {
	_, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	thing := "bucket"
	if key != "" {
		thing = "object"
	}
	for _, part := range strings.Split(r.URL.RawQuery, "&") {
		name, value, _ := strings.Cut(part, "=")
		if value == "" && name != "" || name == "uploadId" {
			thing += " ?" + name
			break
		}
	}
	return Call{Action: r.Method + " " + thing, Mutates: !reads(r.Method)}
}

func refuseAWS(r *http.Request, f Fault) reply {
	p := protocolOf(r)
	if p == restXML {
		return refuseS3(f)
	}
	code, name, text, fault := f.code, "InternalFailure", "The request processing has failed because of an unknown error.", "Receiver"
	switch {
	case f.kind == throttle:
		code, name, text, fault = http.StatusBadRequest, "ThrottlingException", "Rate exceeded", "Sender"
		switch p {
		case query:
			name = "Throttling"
		case restJSON:
			code = http.StatusTooManyRequests
		}
	case code == http.StatusBadGateway || code == http.StatusGatewayTimeout:
		return gateway(code)
	case code == http.StatusServiceUnavailable:
		name, text = "ServiceUnavailable", "The request has failed due to a temporary failure of the server."
	}
	if p == query {
		return reply{code, http.Header{"Content-Type": {"text/xml"}},
			fmt.Sprintf("<ErrorResponse><Error><Type>%s</Type><Code>%s</Code><Message>%s</Message></Error><RequestId>fault</RequestId></ErrorResponse>", fault, name, text)}
	}
	return reply{code, http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amzn-Errortype": {name}}, fmt.Sprintf(`{"__type":%q,"message":%q}`, name, text)}
}

func refuseS3(f Fault) reply {
	code, name, text := f.code, "InternalError", "We encountered an internal error. Please try again."
	switch {
	case f.kind == throttle:
		code, name, text = http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate."
	case code == http.StatusBadGateway || code == http.StatusGatewayTimeout:
		return gateway(code)
	case code == http.StatusServiceUnavailable:
		name, text = "ServiceUnavailable", "Service is unable to handle request."
	}
	return reply{code, http.Header{"Content-Type": {"application/xml"}},
		fmt.Sprintf("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>%s</Code><Message>%s</Message><RequestId>fault</RequestId></Error>", name, text)}
}
