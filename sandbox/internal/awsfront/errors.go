package awsfront

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
)

// protocol is how a service's requests and errors look.
type protocol int

const (
	queryXML protocol = iota // sts, iam, ec2
	targetJSON
	restJSON
	restXML // s3, s3control
)

// apiError is a refusal as AWS words it.
type apiError struct {
	status        int
	code, message string
	reason        string // of Organizations' exceptions that have one
}

// Error returns code and message.
func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, format string, args ...any) *apiError {
	return &apiError{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// authCode gives an authentication failure the code that the services of the
// protocol use for it.
func authCode(p protocol, code string) (string, int) {
	names := map[string][2]string{ // code of the query protocol: JSON's, S3's
		"InvalidClientTokenId":       {"UnrecognizedClientException", "InvalidAccessKeyId"},
		"MissingAuthenticationToken": {"MissingAuthenticationTokenException", "AccessDenied"},
		"ExpiredToken":               {"ExpiredTokenException", "ExpiredToken"},
		"SignatureDoesNotMatch":      {"InvalidSignatureException", "SignatureDoesNotMatch"},
		"IncompleteSignature":        {"IncompleteSignatureException", "AuthorizationHeaderMalformed"},
	}
	other, ok := names[code]
	switch {
	case !ok || p == queryXML:
		return code, http.StatusForbidden
	case p == restXML && (code == "ExpiredToken" || code == "IncompleteSignature"):
		return other[1], http.StatusBadRequest
	case p == restXML:
		return other[1], http.StatusForbidden
	case p == targetJSON:
		return other[0], http.StatusBadRequest
	}
	return other[0], http.StatusForbidden
}

func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (documented)
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func writeError(w http.ResponseWriter, p protocol, e *apiError) {
	id := requestID()
	w.Header().Set("X-Amzn-Requestid", id)
	fault := "Sender"
	if e.status >= 500 {
		fault = "Receiver"
	}
	switch p {
	case queryXML:
		type body struct {
			Type, Code, Message string
		}
		writeXML(w, e.status, struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			Error     body
			RequestID string `xml:"RequestId"`
		}{Error: body{fault, e.code, e.message}, RequestID: id})
	case restXML:
		writeXML(w, e.status, struct {
			XMLName                  xml.Name `xml:"Error"`
			Code, Message, RequestId string
		}{Code: e.code, Message: e.message, RequestId: id})
	case targetJSON:
		body := map[string]string{"__type": e.code, "message": e.message}
		if e.reason != "" {
			body["Reason"] = e.reason
		}
		writeJSON(w, e.status, body)
	default:
		w.Header().Set("X-Amzn-Errortype", e.code)
		writeJSON(w, e.status, map[string]string{"message": e.message})
	}
}

func writeXML(w http.ResponseWriter, status int, v any) {
	raw, err := xml.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the client is gone: nobody to tell
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	raw, err := json.Marshal(v)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	}
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the client is gone: nobody to tell
}
