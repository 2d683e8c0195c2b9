/** Where progress is written: process.stderr, or anything that takes text. */
export interface ProgressStream {
  write(text: string): unknown;
  /** Whether the stream is a terminal, on which a bar is drawn in place. */
  readonly isTTY?: boolean;
}

export interface ProgressOptions {
  /** A word before the numbers, default "train". */
  label?: string;
  /** Default process.stderr. */
  stream?: ProgressStream;
  /** Off a terminal: seconds from line to line, default 5. */
  interval?: number;
}

/** Where a training stands. */
export interface ProgressState {
  /** Steps done and steps to do, counted from the start of this fit. */
  readonly done: number;
  readonly total: number;
  /** Mean raw loss of the latest steps. */
  readonly loss: number;
  readonly stepsPerSecond: number;
}

export interface Progress {
  update(state: ProgressState): void;
  stop(): void;
}

const silent: Progress = { update() {}, stop() {} };

/**
 * How far a training is, with its loss, steps per second and the time left: a bar on a terminal, elsewhere a plain
 * line every few seconds and one at the end.
 */
export async function startProgress(
  progress: boolean | ProgressOptions | undefined,
  total: number,
): Promise<Progress> {
  if (progress === false) return silent;
  const options = typeof progress === "object" ? progress : {};
  const { label = "train", interval = 5 } = options;
  const stream = options.stream ?? standardError();
  if (stream === undefined) return silent;
  return stream.isTTY === true ? bar(label, total, stream) : lines(label, interval, stream);
}

function standardError(): ProgressStream | undefined {
  return typeof process === "object" ? process.stderr : undefined;
}

async function bar(label: string, total: number, stream: ProgressStream): Promise<Progress> {
  const { default: cliProgress } = await import("cli-progress");
  const single = new cliProgress.SingleBar({
    format: `${label} [{bar}] {value}/{total}  loss {loss}  {rate} steps/s  {left} left`,
    // Only write and isTTY are used beside what cli-progress itself asks of a terminal.
    stream: stream as NodeJS.WritableStream,
    barsize: 28,
    fps: 5,
    hideCursor: null,
    // Signals belong to the program.
    gracefulExit: false,
  });
  single.start(total, 0, { loss: "-", rate: "-", left: "-" });
  return {
    update: (state) => single.update(state.done, text(state)),
    stop: () => single.stop(),
  };
}

function lines(label: string, interval: number, stream: ProgressStream): Progress {
  let last = now();
  let unwritten: ProgressState | undefined;
  const write = (state: ProgressState) => {
    const { loss, rate, left } = text(state);
    stream.write(
      `${label}  step ${state.done}/${state.total}  loss ${loss}  ${rate} steps/s  ${left} left\n`,
    );
    unwritten = undefined;
    last = now();
  };
  return {
    update(state) {
      unwritten = state;
      if (now() - last >= interval) write(state);
    },
    stop() {
      if (unwritten !== undefined) write(unwritten);
    },
  };
}

function text({ done, total, loss, stepsPerSecond }: ProgressState): {
  loss: string;
  rate: string;
  left: string;
} {
  return {
    loss: Number.isFinite(loss) ? loss.toPrecision(5) : String(loss),
    rate: stepsPerSecond >= 100 ? stepsPerSecond.toFixed(0) : stepsPerSecond.toPrecision(3),
    left: duration((total - done) / stepsPerSecond),
  };
}

/** Seconds as h:mm:ss or m:ss. */
export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "-";
  const whole = Math.round(seconds);
  const two = (n: number) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

function now(): number {
  return performance.now() / 1000;
}
