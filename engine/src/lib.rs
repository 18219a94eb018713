//! SQL and plans: sessions, optimizer rules, operators, the stage cut and the plan codec.
