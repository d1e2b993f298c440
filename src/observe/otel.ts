import {
  createTraceState,
  diag,
  DiagLogLevel,
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  trace,
  type Attributes,
  type Context,
  type Span,
  type SpanContext,
  type SpanOptions,
  type Tracer,
} from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto'
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources'
import {
  BasicTracerProvider,
  BatchSpanProcessor,
  RandomIdGenerator,
  type IdGenerator,
} from '@opentelemetry/sdk-trace-base'
import { isSampled, NO_TRACE, spanIdOf, traceIdOf, type TraceContext } from '../protocol/trail.js'
import type { Logger } from './logger.js'
import { belowAttempt, spanIdFor, type EndedTurn, type HandedTurn, type RequestTrace, type Tracing } from './tracing.js'
import type { TurnStep } from './turn-steps.js'

/** A collector that is away is told of once in this time, ms. */
const COMPLAIN_EVERY_MS = 60_000

/**
 * Tracing by OpenTelemetry, exported by OTLP/HTTP (protobuf). Sampling, batches, headers and time-outs are as the standard
 * `OTEL_*` variables say, which the SDK reads by itself. A collector that does not answer costs a warning a minute; what
 * does not fit the queue (OTEL_BSP_MAX_QUEUE_SIZE, 2048 spans) is dropped.
 */
export function startTracing(
  settings: { url: string | undefined; replica: string; version: string },
  log: Logger,
): Tracing {
  diag.setLogger(complaints(log), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true })
  const ids = new Ids()
  const provider = new BasicTracerProvider({
    idGenerator: ids,
    resource: resourceFromAttributes({
      'service.name': 'throughline',
      'service.version': settings.version,
      'service.instance.id': settings.replica,
    }).merge(detectResources({ detectors: [envDetector] })), // OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES
    spanProcessors: [
      new BatchSpanProcessor(new OTLPTraceExporter(settings.url === undefined ? {} : { url: settings.url })),
    ],
  })
  const tracer = provider.getTracer('throughline', settings.version)

  /** A span that is over. */
  function told(name: string, parent: TraceContext, options: SpanOptions, to: number): void {
    tracer.startSpan(name, options, below(parent)).end(to)
  }

  return {
    request: (incoming) => new RequestSpan(tracer, incoming),

    begin() {
      const span = tracer.startSpan('agent begins', { kind: SpanKind.CONSUMER }, ROOT_CONTEXT)
      span.end()
      return contextOf(span.spanContext())
    },

    handed(how, { trace: turn, ...of }: HandedTurn, tookMs) {
      if (turn.traceparent === '') return
      const now = Date.now()
      told(how, belowAttempt(turn, of.request), { startTime: now - tookMs, attributes: named(of) }, now)
    },

    ended({ trace: turn, steps, from, to, status, reason, attempts, ...of }: EndedTurn) {
      if (turn.traceparent === '') return
      const failed = status === 'failed'
      ids.next = spanIdFor(of.interaction)
      const span = tracer.startSpan(
        'turn',
        { startTime: from, attributes: named({ ...of, status, reason, attempts }) },
        below(turn),
      )
      if (failed) span.setAttribute('error.type', reason).setStatus({ code: SpanStatusCode.ERROR, message: reason })
      const inside = contextOf(span.spanContext())
      for (const step of steps) tell(step, inside, { pool: of.pool, status, reason, until: to })
      span.end(Math.max(to, from))
    },

    stop: () => provider.shutdown(),
  }

  function tell(
    step: TurnStep,
    parent: TraceContext,
    turn: { pool: string; status: string; reason: string; until: number },
  ): void {
    const to = Math.max(step.to || turn.until, step.from)
    if (step.kind !== 'attempt') {
      const attributes = named({ pool: turn.pool, position: step.position })
      return told(step.kind, parent, { startTime: step.from, attributes }, to)
    }
    const { request, attempt, agent, firstOutputAt, outcome } = step
    const last = outcome === turn.status
    ids.next = spanIdFor(request)
    const span = tracer.startSpan(
      'attempt',
      {
        kind: SpanKind.CLIENT,
        startTime: step.from,
        attributes: named({
          pool: turn.pool,
          request,
          attempt,
          agent,
          status: outcome,
          ...(last && { reason: turn.reason }),
        }),
      },
      below(parent),
    )
    if (firstOutputAt > 0) span.addEvent('first output', firstOutputAt)
    if (outcome !== 'completed' && outcome !== 'cancelled' && outcome !== 'yielded') {
      const why = last ? turn.reason : outcome
      span.setAttribute('error.type', why).setStatus({ code: SpanStatusCode.ERROR, message: why })
    }
    span.end(to)
  }
}

/** The span of a request. Where the request names no trace, it is not made before it is known which one it belongs to. */
class RequestSpan implements RequestTrace {
  readonly #tracer: Tracer
  readonly #startedAt = Date.now()
  #span: Span | undefined

  constructor(tracer: Tracer, incoming: TraceContext) {
    this.#tracer = tracer
    if (incoming.traceparent !== '') this.#begin(incoming)
  }

  #begin(parent: TraceContext): Span {
    const options = { kind: SpanKind.SERVER, startTime: this.#startedAt }
    return (this.#span ??= this.#tracer.startSpan('HTTP', options, below(parent)))
  }

  context(): TraceContext {
    return contextOf(this.#begin(NO_TRACE).spanContext())
  }

  about(turn: TraceContext): void {
    this.#begin(turn)
  }

  stream(surface: string, turn: TraceContext): (how: string, bytes: number) => void {
    const own = this.#begin(turn).spanContext()
    const elsewhere = turn.traceparent !== '' && traceIdOf(turn) !== own.traceId
    const span = this.#tracer.startSpan(
      'stream',
      { startTime: Date.now(), attributes: named({ surface }), links: elsewhere ? [{ context: own }] : [] },
      below(elsewhere ? turn : contextOf(own)),
    )
    return (how, bytes) => void span.setAttributes(named({ 'stream.end': how, 'stream.bytes': bytes })).end()
  }

  end({ method, route, status, requestId, session, interaction, finished }: Parameters<RequestTrace['end']>[0]): void {
    const span = this.#begin(NO_TRACE)
    span.updateName(`${method} ${route}`)
    span.setAttributes({
      'http.request.method': method,
      'http.route': route,
      'http.response.status_code': status,
      ...named({ request_id: requestId, session, interaction, ...(!finished && { unfinished: true }) }),
    })
    if (status >= 500) span.setAttribute('error.type', String(status)).setStatus({ code: SpanStatusCode.ERROR })
    span.end()
  }
}

/** Makes ids at random, but the next one as it is told. */
class Ids implements IdGenerator {
  readonly #random = new RandomIdGenerator()
  next: string | undefined

  generateTraceId(): string {
    return this.#random.generateTraceId()
  }

  generateSpanId(): string {
    const id = this.next ?? this.#random.generateSpanId()
    this.next = undefined
    return id
  }
}

function below(parent: TraceContext): Context {
  if (parent.traceparent === '') return ROOT_CONTEXT
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: traceIdOf(parent),
    spanId: spanIdOf(parent),
    traceFlags: isSampled(parent) ? 1 : 0,
    isRemote: true,
    ...(parent.tracestate !== '' && { traceState: createTraceState(parent.tracestate) }),
  })
}

const contextOf = ({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceContext => ({
  traceparent: `00-${traceId}-${spanId}-0${traceFlags & 1}`,
  tracestate: traceState?.serialize() ?? '',
})

/** Our own words as attributes; what there is none of is left out. */
const named = (words: object): Attributes =>
  Object.fromEntries(
    Object.entries(words)
      .filter(([, value]) => value !== undefined && value !== '')
      .map(([word, value]) => [`throughline.${word}`, value as string]),
  )

function complaints(log: Logger) {
  let complainedAt = -Infinity
  const say = (message: string, ...more: unknown[]) => {
    if (performance.now() - complainedAt < COMPLAIN_EVERY_MS) return
    complainedAt = performance.now()
    const detail = [message, ...more].map(String).join(' ').slice(0, 1000)
    log.warn(
      { event: 'tracing_trouble', detail },
      'traces are not exported as they should be; the turns are not touched',
    )
  }
  const nothing = () => {}
  return { error: say, warn: say, info: nothing, debug: nothing, verbose: nothing }
}
