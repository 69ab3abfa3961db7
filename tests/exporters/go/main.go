// The known trace, sent by OpenTelemetry's own exporter for the protocol that OTEL_EXPORTER_OTLP_PROTOCOL names.
// Endpoint and compression are read by the exporter from the usual OTEL_* variables.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

func main() {
	if err := send(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func send(ctx context.Context) error {
	startMs, err := strconv.ParseInt(os.Getenv("START_MS"), 10, 64)
	if err != nil {
		return err
	}
	start := time.UnixMilli(startMs)
	at := func(ms int) trace.SpanEventOption {
		return trace.WithTimestamp(start.Add(time.Duration(ms) * time.Millisecond))
	}
	var exporter *otlptrace.Exporter
	if os.Getenv("OTEL_EXPORTER_OTLP_PROTOCOL") == "grpc" {
		exporter, err = otlptracegrpc.New(ctx)
	} else {
		exporter, err = otlptracehttp.New(ctx)
	}
	if err != nil {
		return err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", "exporter-test"), attribute.Int("service.instance", 7))),
	)
	tracer := provider.Tracer("shop", trace.WithInstrumentationVersion("1.2.3"))
	traceID, err := trace.TraceIDFromHex("0123456789abcdef0123456789abcdef")
	if err != nil {
		return err
	}
	spanID, err := trace.SpanIDFromHex("fedcba9876543210")
	if err != nil {
		return err
	}
	linked := trace.NewSpanContext(trace.SpanContextConfig{TraceID: traceID, SpanID: spanID, TraceFlags: trace.FlagsSampled, Remote: true})
	inParent, parent := tracer.Start(ctx, "checkout",
		trace.WithSpanKind(trace.SpanKindServer),
		at(0),
		trace.WithAttributes(
			attribute.String("text", "ä€😀"),
			attribute.String("empty", ""),
			attribute.Bool("yes", true),
			attribute.Bool("no", false),
			attribute.Int("whole", 42),
			attribute.Int("negative", -7),
			attribute.Int64("large", 1<<53-1),
			attribute.Float64("fraction", 0.25),
			attribute.StringSlice("texts", []string{"a", "b"}),
			attribute.IntSlice("wholes", []int{1, 2, 3}),
			attribute.Float64Slice("fractions", []float64{0.5, 1.5}),
			attribute.BoolSlice("booleans", []bool{true, false}),
		),
		trace.WithLinks(trace.Link{SpanContext: linked, Attributes: []attribute.KeyValue{attribute.String("why", "retry")}}),
	)
	parent.AddEvent("paid", at(20), trace.WithAttributes(attribute.Float64("amount", 9.5), attribute.String("currency", "EUR")))
	_, child := tracer.Start(inParent, "charge", trace.WithSpanKind(trace.SpanKindClient), at(10))
	child.SetStatus(codes.Error, "declined")
	child.End(at(30))
	parent.SetStatus(codes.Ok, "")
	parent.End(at(50))
	if err := provider.ForceFlush(ctx); err != nil {
		return err
	}
	if err := provider.Shutdown(ctx); err != nil {
		return err
	}
	fmt.Println(parent.SpanContext().TraceID())
	return nil
}
