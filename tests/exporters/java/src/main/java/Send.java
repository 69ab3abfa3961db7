import static io.opentelemetry.api.common.AttributeKey.booleanArrayKey;
import static io.opentelemetry.api.common.AttributeKey.doubleArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longArrayKey;
import static io.opentelemetry.api.common.AttributeKey.longKey;
import static io.opentelemetry.api.common.AttributeKey.stringArrayKey;

import io.opentelemetry.api.common.Attributes;
import io.opentelemetry.api.trace.Span;
import io.opentelemetry.api.trace.SpanContext;
import io.opentelemetry.api.trace.SpanKind;
import io.opentelemetry.api.trace.StatusCode;
import io.opentelemetry.api.trace.TraceFlags;
import io.opentelemetry.api.trace.TraceState;
import io.opentelemetry.api.trace.Tracer;
import io.opentelemetry.context.Context;
import io.opentelemetry.sdk.OpenTelemetrySdk;
import io.opentelemetry.sdk.autoconfigure.AutoConfiguredOpenTelemetrySdk;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** The known trace, sent by OpenTelemetry's own exporter, as its OTEL_* variables tell it. */
public final class Send {
  public static void main(String[] arguments) {
    long start = Long.parseLong(System.getenv("START_MS"));
    OpenTelemetrySdk sdk =
        AutoConfiguredOpenTelemetrySdk.builder()
            .disableShutdownHook()
            .addResourceCustomizer((resource, config) -> resource.toBuilder().put("service.instance", 7).build())
            .build()
            .getOpenTelemetrySdk();
    Tracer tracer = sdk.getTracer("shop", "1.2.3");
    SpanContext linked =
        SpanContext.createFromRemoteParent(
            "0123456789abcdef0123456789abcdef", "fedcba9876543210", TraceFlags.getSampled(), TraceState.getDefault());
    Span parent =
        tracer
            .spanBuilder("checkout")
            .setNoParent()
            .setSpanKind(SpanKind.SERVER)
            .setStartTimestamp(start, TimeUnit.MILLISECONDS)
            .setAttribute("text", "ä€😀")
            .setAttribute("empty", "")
            .setAttribute("yes", true)
            .setAttribute("no", false)
            .setAttribute(longKey("whole"), 42L)
            .setAttribute(longKey("negative"), -7L)
            .setAttribute(longKey("large"), (1L << 53) - 1)
            .setAttribute("fraction", 0.25)
            .setAttribute(stringArrayKey("texts"), List.of("a", "b"))
            .setAttribute(longArrayKey("wholes"), List.of(1L, 2L, 3L))
            .setAttribute(doubleArrayKey("fractions"), List.of(0.5, 1.5))
            .setAttribute(booleanArrayKey("booleans"), List.of(true, false))
            .addLink(linked, Attributes.builder().put("why", "retry").build())
            .startSpan();
    parent.addEvent(
        "paid", Attributes.builder().put("amount", 9.5).put("currency", "EUR").build(), start + 20, TimeUnit.MILLISECONDS);
    Span child =
        tracer
            .spanBuilder("charge")
            .setParent(Context.root().with(parent))
            .setSpanKind(SpanKind.CLIENT)
            .setStartTimestamp(start + 10, TimeUnit.MILLISECONDS)
            .startSpan();
    child.setStatus(StatusCode.ERROR, "declined");
    child.end(start + 30, TimeUnit.MILLISECONDS);
    parent.setStatus(StatusCode.OK);
    parent.end(start + 50, TimeUnit.MILLISECONDS);
    sdk.close();
    System.out.println(parent.getSpanContext().getTraceId());
  }
}
