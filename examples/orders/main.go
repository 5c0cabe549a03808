// Command orders is the example service that takes orders.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"os"
	"sync"
	"time"
)

type order struct {
	ID   int    `json:"id"`
	Item string `json:"item"`
}

type book struct {
	mu     sync.Mutex
	orders []order
}

func (b *book) list(w http.ResponseWriter, _ *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(b.orders); err != nil {
		log.Printf("writing orders: %v", err)
	}
}

func (b *book) place(w http.ResponseWriter, r *http.Request) {
	var o order
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16)).Decode(&o); err != nil || o.Item == "" {
		http.Error(w, "an order names an item", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o.ID = len(b.orders) + 1
	b.orders = append(b.orders, o)
	w.WriteHeader(http.StatusCreated)
}

func main() {
	b := &book{orders: []order{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /orders", b.list)
	mux.HandleFunc("POST /orders", b.place)
	addr := os.Getenv("LISTEN")
	if addr == "" {
		addr = ":8080"
	}
	srv := &http.Server{Addr: addr, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	log.Fatal(srv.ListenAndServe())
}
