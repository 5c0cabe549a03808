package awsfront

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

// maxBody bounds every body but S3's, which is never buffered.
const maxBody = 8 << 20

// call is one request on its way through the front.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	sig     *signature // nil when unsigned
	service string
	action  string
	region  string
	proto   protocol
	body    []byte         // not read for S3
	form    url.Values     // query protocol
	params  map[string]any // JSON protocols
	caller  identity       // of signed requests
	target  string         // account in which moto answers: the caller's, or that of the bucket or key

	resources []string // that rights were asked for
	hides     bool     // an object that is not there is to be refused instead
}

func (c *call) fail(e *apiError) { writeError(c.w, c.proto, e) }

// bind decodes a JSON body.
func (c *call) bind(v any) *apiError {
	if len(bytes.TrimSpace(c.body)) == 0 {
		return nil
	}
	if err := json.Unmarshal(c.body, v); err != nil {
		return refuse(400, "SerializationException", "%v", err)
	}
	return nil
}

// param returns a parameter of the call, "" where it has none of that name.
func (c *call) param(name string) string {
	if c.proto == queryXML {
		return c.form.Get(name)
	}
	switch v := c.params[name].(type) {
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	}
	return ""
}

// list returns a parameter that is a list of texts.
func (c *call) list(name string) []string {
	var out []string
	values, _ := c.params[name].([]any)
	for _, v := range values {
		if text, ok := v.(string); ok {
			out = append(out, text)
		}
	}
	return out
}

// tags returns the tags that the call gives to something, in whichever of its
// shapes the service writes them.
func (c *call) tags() map[string]string {
	out := map[string]string{}
	for i := 1; c.proto == queryXML && c.form.Has(fmt.Sprintf("Tags.member.%d.Key", i)); i++ {
		out[c.form.Get(fmt.Sprintf("Tags.member.%d.Key", i))] = c.form.Get(fmt.Sprintf("Tags.member.%d.Value", i))
	}
	for _, name := range []string{"Tags", "TagsList", "tags"} {
		switch v := c.params[name].(type) {
		case map[string]any:
			for k, value := range v {
				out[k], _ = value.(string)
			}
		case []any:
			for _, entry := range v {
				tag, _ := entry.(map[string]any)
				for _, prefix := range []string{"", "Tag"} {
					if key, ok := tag[prefix+"Key"].(string); ok {
						out[key], _ = tag[prefix+"Value"].(string)
					}
				}
			}
		}
	}
	return out
}

// setParam gives a call of a JSON protocol another value on its way to the
// service.
func (c *call) setParam(name, value string) *apiError {
	c.params[name] = value
	body, err := json.Marshal(c.params)
	if err != nil {
		return internal(err)
	}
	c.body, c.r.Body, c.r.ContentLength = body, io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// readCall finds out which service and action a request is for.
func readCall(w http.ResponseWriter, r *http.Request) (*call, *apiError) {
	c := &call{w: w, r: r, proto: restJSON}
	sig, err := readSignature(r)
	switch {
	case err == nil:
		c.sig, c.service, c.region = sig, strings.ToLower(sig.service), sig.region
	case !errors.Is(err, errUnsigned):
		code, status := authCode(queryXML, "IncompleteSignature")
		return c, refuse(status, code, "%v", err)
	}
	target := r.Header.Get("X-Amz-Target")
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isForm := r.Method == http.MethodPost && kind == "application/x-www-form-urlencoded"
	if c.service == "s3" || c.sig == nil && target == "" && !isForm && !r.URL.Query().Has("Action") {
		c.proto = restXML
		c.nameS3()
		if c.service != "s3control" {
			return c, nil
		}
	}
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return c, refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "reading the body: %v", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(c.body))
	if c.proto == restJSON && !isForm && len(bytes.TrimSpace(c.body)) > 0 {
		// What is no JSON is for the service to refuse; it has no parameters.
		_ = json.Unmarshal(c.body, &c.params)
	}
	switch {
	case c.service == "s3control":
	case target != "":
		c.proto = targetJSON
		// "Service_20131101.Action", or with dots in the service's part.
		c.action = target[strings.LastIndexByte(target, '.')+1:]
		if c.service == "" {
			c.service = "unknown"
		}
	case isForm || r.URL.Query().Has("Action"):
		c.proto = queryXML
		c.form = r.URL.Query()
		if isForm {
			if c.form, err = url.ParseQuery(string(c.body)); err != nil {
				return c, refuse(400, "MalformedQueryString", "%v", err)
			}
		}
		c.action = c.form.Get("Action")
		if c.service == "" {
			c.service = "sts"
		}
	case c.service == "eks":
		c.action = eksAction(r)
	default:
		c.action = r.Method + " " + firstSegment(r.URL.Path)
	}
	return c, nil
}

func firstSegment(path string) string {
	path, _, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	return "/" + path
}

// bucketOf returns the bucket of a path-style request.
func bucketOf(u *url.URL) string { return strings.TrimPrefix(firstSegment(u.Path), "/") }

// onBucket reports whether a path-style request names no object.
func onBucket(u *url.URL) bool {
	_, key, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	return key == ""
}

// nameS3 names an S3 call from method and subresource.
func (c *call) nameS3() {
	c.service = "s3"
	path := strings.TrimPrefix(c.r.URL.Path, "/")
	if strings.HasPrefix(path, "v20180820/") {
		c.service = "s3control"
		last := path[strings.LastIndexByte(path, '/')+1:]
		c.action = s3Verb(c.r.Method) + strings.ToUpper(last[:min(1, len(last))]) + last[min(1, len(last)):]
		return
	}
	bucket, key, _ := strings.Cut(path, "/")
	query := c.r.URL.Query()
	for _, sub := range s3Subresources() {
		if !query.Has(sub.query) || key != "" && !sub.object {
			continue
		}
		verb := s3Verb(c.r.Method)
		if c.r.Method == http.MethodPost {
			verb = "Post"
		}
		if sub.query == "uploads" {
			c.action = map[string]string{"Post": "CreateMultipartUpload", "Get": "ListMultipartUploads"}[verb]
		} else if sub.query == "uploadId" {
			c.action = map[string]string{"Put": "UploadPart", "Post": "CompleteMultipartUpload", "Delete": "AbortMultipartUpload", "Get": "ListParts"}[verb]
		} else if sub.query == "delete" {
			c.action = "DeleteObjects"
		} else if key != "" {
			c.action = verb + "Object" + sub.name
		} else {
			c.action = verb + "Bucket" + sub.name
		}
		return
	}
	switch {
	case bucket == "":
		c.action = "ListBuckets"
	case key != "":
		c.action = map[string]string{"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject", "POST": "PostObject"}[c.r.Method]
	default:
		c.action = map[string]string{"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket", "POST": "PostObject"}[c.r.Method]
	}
	if c.action == "" {
		c.action = c.r.Method
	}
}

func s3Verb(method string) string {
	switch method {
	case http.MethodGet:
		return "Get"
	case http.MethodHead:
		return "Head"
	case http.MethodDelete:
		return "Delete"
	}
	return "Put"
}

type s3Subresource struct {
	query, name string
	object      bool // exists for objects as well
}

func s3Subresources() []s3Subresource {
	return []s3Subresource{
		{"uploadId", "", true}, {"uploads", "", true}, {"delete", "", false},
		{"publicAccessBlock", "PublicAccessBlock", false}, {"versioning", "Versioning", false}, {"encryption", "Encryption", false},
		{"policyStatus", "PolicyStatus", false}, {"policy", "Policy", false}, {"ownershipControls", "OwnershipControls", false},
		{"lifecycle", "Lifecycle", false}, {"tagging", "Tagging", true}, {"acl", "Acl", true}, {"object-lock", "ObjectLock", false},
		{"retention", "Retention", true}, {"legal-hold", "LegalHold", true}, {"location", "Location", false}, {"logging", "Logging", false},
		{"versions", "Versions", false}, {"cors", "Cors", false}, {"website", "Website", false}, {"notification", "Notification", false},
		{"replication", "Replication", false}, {"attributes", "Attributes", true}, {"requestPayment", "RequestPayment", false},
	}
}

// roleARN splits a role's ARN into account and name; the path is left out.
func roleARN(arn string) (account, name string, ok bool) {
	m := regexp.MustCompile(`^arn:aws:iam::(\d{12}):role/(?:[\x21-\x7e]*/)?([\w+=,.@-]{1,64})$`).FindStringSubmatch(arn)
	if m == nil {
		return "", "", false
	}
	return m[1], m[2], true
}
