package awsfront

import (
	"crypto/subtle"
	"net/http"
	"time"
)

// authenticate finds the caller of a signed request and checks its signature,
// its age and its session.
func (f *Front) authenticate(c *call) *apiError {
	fail := func(code, message string) *apiError {
		name, status := authCode(c.proto, code)
		return refuse(status, name, "%s", message)
	}
	if c.sig == nil {
		return fail("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	id, known := f.store.key(c.sig.accessKey)
	if !known || id.Disabled || subtle.ConstantTimeCompare([]byte(id.Token), []byte(c.sig.token)) != 1 {
		return fail("InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	c.caller = id
	payload := hashOf(c.body)
	if c.proto == restXML {
		// S3 signs the hash that the client declares; the body streams by.
		payload = c.r.Header.Get(hashHeader)
		if c.sig.presigned && payload == "" {
			payload = unsigned
		}
	}
	if !c.sig.matches(c.r, id.Secret, payload, nil) {
		return fail("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.")
	}
	if !id.Expires.IsZero() && !f.now().Before(id.Expires) {
		return fail("ExpiredToken", "The security token included in the request is expired")
	}
	return f.checkAge(c, fail)
}

func (f *Front) checkAge(c *call, fail func(code, message string) *apiError) *apiError {
	age := f.now().Sub(c.sig.time)
	limit := maxSkew
	if c.sig.presigned && c.sig.expires > 0 {
		limit = c.sig.expires
	}
	switch {
	case age <= limit && age >= -maxSkew:
		return nil
	case c.proto == restXML && c.sig.presigned:
		return refuse(http.StatusForbidden, "AccessDenied", "Request has expired")
	case c.proto == restXML:
		return refuse(http.StatusForbidden, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.")
	}
	return fail("SignatureDoesNotMatch", "Signature expired or not yet current: "+c.sig.time.Format(amzTime)+" is not within "+limit.String()+" of "+f.now().UTC().Format(amzTime))
}

// live reports whether the identity may still be used at t.
func (i identity) live(t time.Time) bool {
	return !i.Disabled && (i.Expires.IsZero() || t.Before(i.Expires))
}
