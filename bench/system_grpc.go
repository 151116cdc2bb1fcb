package main

import (
	"context"
	"crypto/tls"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

const grpcMethod = "/bench.Echo/Call"

// rawCodec carries bytes as they are, so that no serialisation is measured.
type rawCodec struct{}

func (rawCodec) Name() string { return "raw" }

func (rawCodec) Marshal(v any) ([]byte, error) {
	b, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("raw codec: %T", v)
	}
	return *b, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	b, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("raw codec: %T", v)
	}
	*b = append((*b)[:0], data...)
	return nil
}

func serveGRPC(secure bool) func(context.Context) (endpoint, func(), error) {
	return func(context.Context) (endpoint, func(), error) {
		options := []grpc.ServerOption{grpc.ForceServerCodec(rawCodec{})}
		var e endpoint
		if secure {
			cfg, ca, err := selfSigned()
			if err != nil {
				return e, nil, err
			}
			e.CA = ca
			options = append(options, grpc.Creds(credentials.NewTLS(cfg)))
		}
		l, err := listen()
		if err != nil {
			return e, nil, err
		}
		e.Addr = l.Addr().String()
		s := grpc.NewServer(options...)
		s.RegisterService(&grpc.ServiceDesc{
			ServiceName: "bench.Echo",
			HandlerType: (*any)(nil),
			Methods: []grpc.MethodDesc{{MethodName: "Call", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
				var in []byte
				err := decode(&in)
				return &in, err
			}}},
		}, struct{}{})
		go func() { _ = s.Serve(l) }() // ends with Stop
		return e, s.Stop, nil
	}
}

func dialGRPC(_ context.Context, e endpoint) (client, error) {
	creds := insecure.NewCredentials()
	if e.CA != nil {
		var cfg *tls.Config
		cfg, err := trusting(e.CA)
		if err != nil {
			return client{}, err
		}
		creds = credentials.NewTLS(cfg)
	}
	c, err := grpc.NewClient("passthrough:///"+e.Addr, grpc.WithTransportCredentials(creds), grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		return client{}, err
	}
	call := func(ctx context.Context, payload []byte) ([]byte, error) {
		var out []byte
		err := c.Invoke(ctx, grpcMethod, &payload, &out)
		return out, err
	}
	return client{call, func() { _ = c.Close() }}, nil
}
