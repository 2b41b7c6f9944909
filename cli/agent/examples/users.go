// Calls a provider's API with the agent's token, over the agent's Unix socket. Untried here: there was no Go compiler.
//
//	go run users.go /run/token-broker/agent.sock unidy/eu-main https://id.example.com/api/users
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

type token struct {
	TokenID string            `json:"token_id"`
	Headers map[string]string `json:"headers"`
}

type users struct {
	agent      *http.Client
	connection string
}

func newUsers(socket, connection string) *users {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	transport := &http.Transport{DialContext: dial}
	return &users{&http.Client{Transport: transport, Timeout: time.Minute}, connection}
}

// get returns the API's response. After a 401 it reports the token, and calls again with another one, at most twice: the
// provider may have revoked the next one, too, if the broker had it already.
func (u *users) get(url string) (*http.Response, error) {
	current, err := u.token(http.MethodGet, "", nil)
	if err != nil {
		return nil, err
	}
	response, err := call(url, current)
	for replay := 0; replay < 2 && err == nil && response.StatusCode == http.StatusUnauthorized; replay++ {
		report, _ := json.Marshal(map[string]string{"token_id": current.TokenID})
		other, reportErr := u.token(http.MethodPost, "/rejected", report)
		if reportErr != nil {
			break // there is no other token: the 401 is the API's answer
		}
		response.Body.Close()
		current = other
		response, err = call(url, current)
	}
	return response, err
}

// token asks the agent. Ask before each request: the agent keeps the token.
func (u *users) token(method, suffix string, body []byte) (*token, error) {
	request, err := http.NewRequest(method, "http://localhost/v1/tokens/"+u.connection+suffix, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := u.agent.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	received, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("no token: %s", received) // a problem document; it holds no secret
	}
	found := new(token)
	return found, json.Unmarshal(received, found)
}

func call(url string, current *token) (*http.Response, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range current.Headers {
		request.Header.Set(name, value)
	}
	return http.DefaultClient.Do(request)
}

func main() {
	response, err := newUsers(os.Args[1], os.Args[2]).get(os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer response.Body.Close()
	io.Copy(os.Stdout, response.Body)
}
