import RomulusCore

/// Tells the helper when to begin each epoch, and looks at the guest's output where that may bring the moment forward.
/// Used on the relay's thread only.
struct EpochPacer {
    private let control: Int32
    private let log: Log
    private let output: OutputBuffer?
    private let plugins: EpochPlugins?
    private var scheduler: CheckpointScheduler
    private let lookNanoseconds: Int64
    /// When the next epoch begins, as the helper knows it; nil while one is under way.
    private var told: MonotonicTime?
    private var outputSince: MonotonicTime?
    /// Output that waits at the first look has waited since then at the longest.
    private var mayWaitSince = MonotonicTime.now
    /// What was counted before is of earlier epochs.
    private var committedAt = MonotonicTime.now
    private(set) var nextLook: MonotonicTime?
    private var newest: CompletedEpoch?
    /// A plugin's choice, until it chooses again.
    private var chosenNanoseconds: Int64?
    /// What the epoch under way, or the next, is to have as its period.
    private var aimedNanoseconds: Int64 = 0
    private var limiter = MessageLimiter(intervalNanoseconds: 60_000_000_000)

    /// - Parameter control: the helper's socket.
    init(_ policy: SchedulePolicy, control: Int32, output: OutputBuffer?, plugins: EpochPlugins?, log: Log) {
        self.control = control
        self.output = output
        self.plugins = plugins
        self.log = log
        scheduler = CheckpointScheduler(policy)
        lookNanoseconds =
            if case .adaptive(let budgets) = policy {
                min(max(budgets.floorNanoseconds / 4, 2_000_000), 20_000_000)
            } else { 0 }
    }

    /// Readable when `hearPlugins` has something to hear.
    var pluginDescriptor: Int32 { plugins?.descriptor ?? -1 }
    var policy: SchedulePolicy { scheduler.policy }
    var overrunCount: Int { scheduler.overrunCount }

    /// - Parameter completed: nil where something of the epoch was not heard: then the next one begins at once.
    mutating func committed(_ epoch: Epoch, _ completed: CompletedEpoch?) {
        let now = MonotonicTime.now
        committedAt = now
        outputSince = nil
        var start = now
        if let completed {
            scheduler.epochCommitted(completed.cost, at: now)
            mayWaitSince = completed.times.resumed
            start = scheduler.nextStart(outputSince: nil) ?? now
            plugins?.committed(
                completed, aimedNanoseconds: aimedNanoseconds, periodNanoseconds: start - completed.times.requested)
            if plugins?.choosesPeriods != true { chosenNanoseconds = nil }
            if let chosenNanoseconds { start = completed.times.requested + chosenNanoseconds }
            aimedNanoseconds = start - completed.times.requested
        }
        newest = completed
        told = start
        _ = HelperControl.send(.commit(epoch, nextStart: start), on: control)
        let mayLook = scheduler.asksForOutput && output != nil && chosenNanoseconds == nil
        nextLook = mayLook ? now + lookNanoseconds : nil
        if chosenNanoseconds == nil { complain(at: now) }
    }

    /// What they have chosen holds at once, if the next epoch has not begun.
    mutating func hearPlugins() {
        guard let newest, let period = plugins?.takePeriod(after: newest.number) else { return }
        chosenNanoseconds = period == 0 ? nil : period
        guard told != nil else { return }
        let start =
            chosenNanoseconds.map { newest.times.requested + $0 } ?? scheduler.nextStart(outputSince: outputSince)
        guard let start, start != told else { return }
        if chosenNanoseconds != nil { nextLook = nil }
        tellAnew(start)
    }

    /// The helper knows of another moment.
    private mutating func tellAnew(_ start: MonotonicTime) {
        told = start
        if let newest { aimedNanoseconds = start - newest.times.requested }
        _ = HelperControl.send(.start(start), on: control)
    }

    mutating func epochBegan() {
        told = nil
        nextLook = nil
    }

    /// At `nextLook`, or later.
    mutating func look() {
        let now = MonotonicTime.now
        guard let told, let look = nextLook, now >= look else { return }
        nextLook = now < told ? now + lookNanoseconds : nil
        if outputSince == nil {
            guard let output else { return }
            let isWaiting = output.held.packets > 0
            guard output.countedAt >= committedAt else { return }
            guard isWaiting else {
                mayWaitSince = output.countedAt
                return
            }
            outputSince = mayWaitSince
        }
        // Nothing but the time that has passed changes the answer now.
        nextLook = nil
        guard let start = scheduler.nextStart(outputSince: outputSince), start < told else { return }
        tellAnew(start)
    }

    private mutating func complain(at now: MonotonicTime) {
        let line: LogLine? =
            switch scheduler.policy {
            case .fixed(let period):
                overrunCount == saidOverruns
                    ? nil
                    : .note(
                        "an epoch took longer than the period of \(period.inMilliseconds) ms, so the next began at once"
                            + " (\(overrunCount) so far)")
            case .adaptive(let budgets): scheduler.unmetBudget.map { .note(budgets.advice($0)) }
            }
        guard let line, limiter.passes(at: now) else { return }
        saidOverruns = overrunCount
        log.write(line)
    }
    private var saidOverruns = 0
}
