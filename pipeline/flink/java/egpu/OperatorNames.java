package egpu;

import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * Makes the planner give the operators of a script the same names each time, so that their state is found again.
 *
 * <p>Without names an operator is known by the shape of the graph, and that changes with the parallelism: what is chained
 * at 1 is not at 2. {@code table.exec.uid.generation = ALWAYS} names operators by the numbers of the plan's nodes; the
 * planner goes on counting those for as long as the JobManager lives. Flink has no public way to begin at 1 again.
 */
final class OperatorNames {
    static final String OPTION = "table.exec.uid.generation";
    static final String ALWAYS = "ALWAYS";

    private static final String COUNTER = "org.apache.flink.table.planner.plan.nodes.exec.ExecNodeContext";
    private static final String LOADER = "org.apache.flink.table.planner.loader.PlannerModule";

    private OperatorNames() {}

    /** Number the nodes of the plan that is translated next from 1. */
    static void beginAgain() {
        try {
            Class.forName(COUNTER, true, plannerLoader()).getMethod("resetIdCounter").invoke(null);
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("this Flink numbers the nodes of a plan in another way than 1.20", error);
        }
    }

    /** The planner is either on the class path or, as Flink comes, behind a class loader of its own. */
    private static ClassLoader plannerLoader() throws ReflectiveOperationException {
        ClassLoader own = OperatorNames.class.getClassLoader();
        try {
            return Class.forName(COUNTER, false, own).getClassLoader();
        } catch (ClassNotFoundException behindItsLoader) {
            Class<?> module = Class.forName(LOADER, true, own);
            Method instance = module.getDeclaredMethod("getInstance");
            instance.setAccessible(true);
            Field loader = module.getDeclaredField("submoduleClassLoader");
            loader.setAccessible(true);
            return (ClassLoader) loader.get(instance.invoke(null));
        }
    }
}
