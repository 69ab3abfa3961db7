// The known trace, sent by OpenTelemetry's own exporter for the protocol that OTEL_EXPORTER_OTLP_PROTOCOL names.
// Endpoint and compression are read by the exporter from the usual OTEL_* variables.
"use strict";

const { SpanKind, SpanStatusCode, TraceFlags, context, trace } = require("@opentelemetry/api");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const { BasicTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-base");

const EXPORTERS = {
  "http/protobuf": "@opentelemetry/exporter-trace-otlp-proto",
  "http/json": "@opentelemetry/exporter-trace-otlp-http",
  grpc: "@opentelemetry/exporter-trace-otlp-grpc",
};
const { OTLPTraceExporter } = require(EXPORTERS[process.env.OTEL_EXPORTER_OTLP_PROTOCOL]);

const start = new Date(Number(process.env.START_MS));
const at = (ms) => new Date(start.getTime() + ms);

async function main() {
  const provider = new BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": "exporter-test", "service.instance": 7 }),
    spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())],
  });
  const tracer = provider.getTracer("shop", "1.2.3");
  const linked = { traceId: "0123456789abcdef0123456789abcdef", spanId: "fedcba9876543210", traceFlags: TraceFlags.SAMPLED };
  const parent = tracer.startSpan("checkout", {
    kind: SpanKind.SERVER,
    startTime: start,
    attributes: {
      text: "ä€😀",
      empty: "",
      yes: true,
      no: false,
      whole: 42,
      negative: -7,
      large: Number.MAX_SAFE_INTEGER,
      fraction: 0.25,
      texts: ["a", "b"],
      wholes: [1, 2, 3],
      fractions: [0.5, 1.5],
      booleans: [true, false],
    },
    links: [{ context: linked, attributes: { why: "retry" } }],
  });
  parent.addEvent("paid", { amount: 9.5, currency: "EUR" }, at(20));
  const child = tracer.startSpan("charge", { kind: SpanKind.CLIENT, startTime: at(10) }, trace.setSpan(context.active(), parent));
  child.setStatus({ code: SpanStatusCode.ERROR, message: "declined" });
  child.end(at(30));
  parent.setStatus({ code: SpanStatusCode.OK });
  parent.end(at(50));
  await provider.forceFlush();
  await provider.shutdown();
  console.log(parent.spanContext().traceId);
}

main().catch((problem) => {
  console.error(problem);
  process.exit(1);
});
