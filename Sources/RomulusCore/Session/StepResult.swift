/// What a plugin has made of a step of libxl's: suspend, postcopy or checkpoint. Above zero is success, in libxl's terms.
public enum StepResult {
    public enum Judgement: Equatable, Sendable {
        /// The step's result.
        case counts(Int32)
        /// The plugin has failed, and is done for; the step has this result all the same.
        case failed(result: Int32)
        /// The plugin has failed before it had the step done.
        case failedBeforeNext
    }

    /// - Parameters:
    ///   - returned: nil when it was left behind.
    ///   - next: what libxl (or the next plugin) said; nil when it was not called.
    public static func judge(returned: Int32?, next: Int32?) -> Judgement {
        switch (returned, next) {
        case (let returned?, nil) where returned > 0: .counts(returned)
        case (_, nil): .failedBeforeNext
        // Nobody turns a failure of libxl's into a success.
        case (_?, let next?) where next <= 0: .counts(next)
        case (let returned?, _?) where returned > 0: .counts(returned)
        case (_, let next?): .failed(result: next)
        }
    }
}
